#!/bin/bash
# tap-img and qemu-img say and do the same with raw images: info, map, measure,
# compare, check, convert, create, resize.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires qemu-img qemu-io jq
cd "$T" || exit 1

# both STATUS ARGS...: the same exit status and, but for JSON's layout, output.
both()
{
	local want=$1 q t
	shift
	qemu-img "$@" >q.out 2>q.err; q=$?
	tap-img "$@" >t.out 2>t.err; t=$?
	[ "$q $t" = "$want $want" ] ||
		fail "$*: qemu-img $q, tap-img $t: $(cat t.err)"
	[ "$want" = 0 ] || [ -s t.out ] || [ -s t.err ] || fail "$*: no reason"
	case "$*" in
	*json*) jq -S . <q.out >q.json; jq -S . <t.out >t.json
		cmp q.json t.json || fail "$*: $(diff q.json t.json)" ;;
	*) cmp q.out t.out || fail "$*: $(diff q.out t.out)" ;;
	esac
}

# Data and holes at many places, a size that is no whole number of sectors.
truncate -s 20000001 a.img
for at in 0 4k 100k 1M 3M 15M; do
	qemu-io -f raw -c "write -P 0x$((RANDOM % 89 + 10)) $at 68k" a.img >/dev/null ||
		fail "qemu-io"
done
qemu-io -f raw -c 'write -P 0 7M 200k' a.img >/dev/null
for form in human json; do
	both 0 info -f raw --output=$form a.img
	both 0 map -f raw --output=$form a.img
	both 0 map -f raw --output=$form --start-offset=50k --max-length=3M a.img
	both 0 measure -f raw -O raw --output=$form a.img
	both 0 measure -O raw --output=$form --size 12345678
	both 1 measure -O vmdk --output=$form --size 12345678
	both 1 measure -O qcow --output=$form --size 12345678
done
both 0 info a.img
both 63 check -f raw a.img
both 1 info nosuch.img
both 1 map -f raw nosuch.img
both 1 check -f raw nosuch.img

# compare: the same; a longer one with zeroes; one byte; both ways round; strict
cp a.img b.img
both 0 compare -f raw -F raw a.img b.img
both 0 compare -s -f raw -F raw a.img a.img
truncate -s 30M b.img
both 0 compare -f raw -F raw a.img b.img
both 0 compare -f raw -F raw b.img a.img
both 1 compare -s -f raw -F raw a.img b.img
both 2 compare -f raw -F raw a.img nosuch.img
for at in 29M 15729999 600 0; do
	qemu-io -f raw -c "write -P 1 $at 1" b.img >/dev/null
	both 1 compare -f raw -F raw a.img b.img
	both 1 compare -f raw -F raw b.img a.img
done
truncate -s 1M h.img
head -c 1M /dev/zero >z.img
both 0 compare -f raw -F raw h.img z.img
both 1 compare -s -f raw -F raw h.img z.img

# convert: contents, holes, joined sources, no holes, into what is there
truncate -s 20000256 a.img
for opt in "" "-W" "-m 1" "-m 16 -W" "-t none -T none" "-t unsafe -T writeback" \
		"-S 64k" "-S 512"; do
	# shellcheck disable=SC2086
	tap-img convert -f raw -O raw $opt a.img c.img || fail "convert $opt"
	cmp a.img c.img || fail "convert $opt: other bytes"
	qemu-img compare -q -f raw -F raw a.img c.img || fail "convert $opt"
	[ "$(du -k c.img | cut -f1)" -le "$(du -k a.img | cut -f1)" ] ||
		fail "convert $opt: $(du -k a.img c.img)"
done
rm -f c.img
tap-img convert -f raw -S 0 a.img c.img || fail "convert -S 0"
cmp a.img c.img || fail "convert -S 0: other bytes"
[ "$(du -k c.img | cut -f1)" -ge 19500 ] || fail "-S 0 left holes: $(du -k c.img)"
tap-img convert -f raw a.img z.img a.img j.img || fail "convert of three"
cat a.img z.img a.img | cmp - j.img || fail "joined otherwise"
random_file n.img 24
tap-img convert -n -f raw a.img n.img || fail "convert -n"
head -c 20000256 n.img | cmp - a.img || fail "convert -n: other bytes"
[ "$(stat -c %s n.img)" = $((24 << 20)) ] || fail "convert -n changed the size"
truncate -s 1M small.img
refuse 1 tap-img convert -n -f raw a.img small.img
refuse 1 tap-img convert -f raw a.img a.img		# itself: nothing is lost
cmp a.img c.img || fail "a refused convert changed its source"
tap-img convert -p -f raw a.img c.img >p.out || fail "convert -p"
grep -q '(100.00/100%)' p.out || fail "no progress: $(cat p.out)"

# SIGUSR1 asks how far it is, once it takes it and has begun.
tap-img convert -m 1 -f "delay:op=read,ms=1500|aio" a.img c.img >p.out &
pid=$!
own $pid
hears() { (((0x$(awk '/^SigBlk/ { print $2 }' "/proc/$pid/status") & 0x200) != 0)); }
wait_for 5 hears || fail "it takes no SIGUSR1: $(cat p.out)"
n=0
answers() { grep -c '^    (.*/100%)$' p.out; }
asks() { kill -USR1 $pid && n=$((n + 1)) && sleep 0.1 && [ "$(answers)" -gt 0 ]; }
wait_for 5 asks || fail "no answer to SIGUSR1: $(cat p.out)"
wait $pid || fail "a signal that asks ended it"
[ "$(answers)" -le $n ] || fail "asked $n times: $(cat p.out)"

# create and resize
for size in 512 100000 5G; do
	both 0 create -f raw -q c.img $size
done
tap-img create -q c.img 100000 && [ "$(stat -c %s c.img)" = 100352 ] || fail "create"
for mode in off falloc full; do
	tap-img create -q -o preallocation=$mode c.img 1M || fail "create $mode"
	tap-img resize -q -f raw --preallocation=$mode c.img +1M || fail "resize $mode"
	[ "$(stat -c %s c.img)" = 2097152 ] || fail "resize $mode: size"
	case $mode in off) want=0 ;; *) want=2048 ;; esac
	[ "$(du -k c.img | cut -f1)" -ge $want ] || fail "$mode: $(du -k c.img)"
	tr -d '\0' <c.img | cmp -s - /dev/null || fail "$mode: not zero"
done
refuse 1 tap-img resize c.img +1M			# never guessed
refuse 1 tap-img resize -f raw c.img -1M
refuse 1 tap-img resize -f raw --shrink c.img -3M
tap-img resize -q -f raw --shrink c.img -1M || fail "shrink"
[ "$(stat -c %s c.img)" = 1048576 ] || fail "shrink: size"

# Wrong command lines: one line, status 1 (compare: 2).
refuse 1 tap-img
refuse 1 tap-img nonsense
refuse 1 tap-img create c.img
refuse 1 tap-img create c.img 1X
refuse 1 tap-img create -f nosuch c.img 1M
refuse 1 tap-img create -o nosuch=1 c.img 1M
refuse 1 tap-img create -b a.img c.img
refuse 1 tap-img convert a.img
refuse 1 tap-img convert --image-opts a.img c.img
refuse 1 tap-img convert -m 0 a.img c.img
refuse 1 tap-img info --object secret,id=x a.img
refuse 1 tap-img info a.img b.img
refuse 2 tap-img compare a.img
refuse 2 tap-img compare -x a.img b.img

# What a live image is: refused, and seen with -U.
mkfifo hold
qemu-io -f raw c.img <hold >hold.out 2>&1 &
own $!
exec 9>hold
echo 'read 0 512' >&9
wait_for 5 grep -q ops hold.out || fail "qemu-io does not answer"
refuse 1 tap-img convert -f raw a.img c.img
cmp -s c.img a.img && fail "a live image was overwritten"
tap-img create -q c.img 1M && fail "a live image was overwritten"
refuse 1 tap-img info c.img
tap-img info -U c.img >/dev/null || fail "info -U"
exec 9>&-

# An I/O error ends it, and the message says where.
tap-img convert -n -f "error:op=read,after=3|aio" -O raw a.img n.img 2>err &&
	fail "convert, though a read failed"
grep -q 'cannot read a.img at byte' err || fail "which image? $(cat err)"
tap-img convert -n -f raw -O "error:op=write,after=2|aio" a.img n.img 2>err &&
	fail "convert, though a write failed"
grep -q 'cannot write to n.img at byte' err || fail "which image? $(cat err)"
true
