#!/bin/bash
# qemu-img and qemu-io judge: what they write through NBD is in the file; a live
# image is locked for them and theirs for us; a paused one is free.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires qemu-img qemu-io nbdinfo jq
size=32

random_file "$T/src.raw" $size
truncate -s ${size}M "$T/disk.img"
start_ctl
create "aio:$T/disk.img"

# Convert into the disk and compare both ways.
qemu-img convert -n -f raw -O raw "$T/src.raw" "$URI" || fail "qemu-img convert"
qemu-img compare -f raw -F raw "$T/src.raw" "$URI" || fail "qemu-img compare"
cmp "$T/src.raw" "$T/disk.img" || fail "the file holds other data"

# Zeroes and trims are holes in the map.
qemu-io -f raw "$URI" -c 'write -z -u 4M 8M' -c 'discard 16M 4M' -c flush \
	>"$T/qemu-io.out" || fail "qemu-io: $(cat "$T/qemu-io.out")"
qemu-io -f raw "$URI" -c 'read -P 0 4M 8M' -c 'read -P 0 16M 4M' \
	>"$T/qemu-io.out" || fail "qemu-io: $(cat "$T/qemu-io.out")"
grep -q 'verification failed' "$T/qemu-io.out" && fail "$(cat "$T/qemu-io.out")"
qemu-img map --output=json -f raw "$URI" >"$T/map.json" || fail "qemu-img map"
zero=$(jq '[.[] | select(.zero) | .length] | add' "$T/map.json")
[ "$zero" = $((12 << 20)) ] || fail "map says $zero bytes of zeroes: $(cat "$T/map.json")"

# Live: nobody else may write, nor resize; with -U one may look.
qemu-io -f raw -c 'write 0 512' "$T/disk.img" >"$T/out" 2>&1 &&
	fail "qemu-io wrote to a live image"
grep -q lock "$T/out" || fail "no lock in the way of qemu-io: $(cat "$T/out")"
qemu-img info -U "$T/disk.img" >/dev/null || fail "qemu-img info -U"
# ... nor may a second disk of ours
refuse any tap-ctl create -a "aio:$T/disk.img"
note "second writer: $ERR"
[ "$(tap-ctl list --json | jq length)" = 1 ] || fail "the refused disk is listed"

# And the other way: what qemu holds, we refuse; nothing is left of the attempt.
cp "$T/src.raw" "$T/held.img"
mkfifo "$T/hold"
qemu-io -f raw "$T/held.img" <"$T/hold" >"$T/hold.out" 2>&1 &
holder=$!
own $holder
exec 9>"$T/hold"
echo 'read 0 512' >&9
wait_for 5 grep -q 'ops' "$T/hold.out" || fail "qemu-io does not answer"
refuse any tap-ctl create -a "aio:$T/held.img"
note "held by qemu: $ERR"
case $ERR in *held.img*) ;; *) fail "the message names no file: $ERR" ;; esac
exec 9>&-
wait $holder
create "aio:$T/held.img"
destroy "$MINOR"

# Two that only read may share.
create "aio:$T/src.raw" -R
first=$MINOR
create "aio:$T/src.raw" -R
destroy "$MINOR"
destroy "$first"

# Paused: the file is qemu-img's.  It grows; unpause takes the new size.
disk=$(tap-ctl list --json | jq -r '.[0].minor')
tap-ctl pause -m "$disk" || fail "pause"
qemu-io -f raw -c 'write -P 7 0 64k' "$T/disk.img" >/dev/null ||
	fail "a paused image is still locked"
qemu-img resize -q -f raw "$T/disk.img" $((size + 8))M || fail "qemu-img resize"
tap-ctl unpause -m "$disk" || fail "unpause"
URI="nbd+unix:///?socket=$RUN/nbd$disk.sock"
qemu-io -f raw "$URI" -c 'read -P 7 0 64k' >"$T/qemu-io.out" ||
	fail "read after unpause"
grep -q 'verification failed' "$T/qemu-io.out" && fail "stale data after unpause"
[ "$(nbdinfo --size "$URI")" = $(((size + 8) << 20)) ] ||
	fail "size after unpause: $(nbdinfo --size "$URI")"
destroy "$disk"
stop_ctl
