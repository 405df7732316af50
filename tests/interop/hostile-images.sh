#!/bin/bash
# Damaged and hostile images are refused with a message, or they run and what they
# say is contained: errors, no crash, no endless work, no table overwritten by a
# guest, bounded memory.
#
# Each is used as a guest might, read-only and for writing, in memory; those of qcow2
# that are opened also as an operator might, with tap-img check and snapshot: what a
# repair may not touch it does not, and what refuses has changed nothing.
# ONLY=REGEX: those alone, with all that is said.
# TIMEOUT: 700
set -u
. "$(dirname "$0")/../lib/test.sh"
requires qemu-img qemu-io python3
TRY=$BUILD/func/imgtry
has() { tapdisk --features | grep -qw "$1"; }
has qcow2 || skip "no qcow2 driver"

d=$T/images
mkdir "$d"
io=(-c 'write -q -P 1 0 70k' -c 'write -q -P 2 1M 200k')
make_good()
{
	cd "$d" || return 1
	truncate -s 2M flat.raw
	dd if=/dev/urandom of=base.raw bs=1M count=2 status=none
	qemu-img create -q -f qcow2 a.qcow2 4M
	qemu-io "${io[@]}" a.qcow2
	qemu-img create -q -f qcow2 -o compat=0.10 v2.qcow2 4M
	qemu-io "${io[@]}" v2.qcow2
	qemu-img create -q -f qcow2 -o cluster_size=4k small.qcow2 4M
	qemu-io "${io[@]}" small.qcow2
	cp a.qcow2 snap.qcow2
	qemu-img snapshot -c one snap.qcow2
	qemu-io -c 'write -q -P 3 16k 100k' snap.qcow2
	qemu-img create -q -f qcow2 wide.qcow2 1100M
	qemu-io -c 'write -q -P 3 0 4k' -c 'write -q -P 4 600M 4k' wide.qcow2
	qemu-img create -q -f qcow2 -o extended_l2=on ext.qcow2 4M
	qemu-io "${io[@]}" ext.qcow2
	yes 'it packs well' | head -c 1M >text.raw
	qemu-img convert -c -f raw -O qcow2 text.raw packed.qcow2
	qemu-img convert -c -f raw -O qcow2 -o compression_type=zstd text.raw zstd.qcow2
	qemu-img convert -c -f raw -O qcow2 -o cluster_size=512 text.raw tiny.qcow2
	qemu-img create -q -f qcow2 -b base.raw -F raw child.qcow2 4M
	cp a.qcow2 bitmap.qcow2
	qemu-img bitmap --add -g 64k bitmap.qcow2 b
	cp bitmap.qcow2 bits.qcow2
	qemu-io -c 'write -q -P 1 0 64k' bits.qcow2
	printf secret >key
	tap-img create -q -f qcow2 -o encrypt.format=luks,encrypt.iter-time=10 \
		--key-file key luks.qcow2 4M
	qemu-io "${io[@]}" --object secret,id=s,file=key --image-opts \
		driver=qcow2,file.filename=luks.qcow2,encrypt.key-secret=s
	tap-img create -q -f luks -o iter-time=10 --key-file key v1.luks 1M
	if command -v cryptsetup >/dev/null; then
		truncate -s 1M v2.luks
		cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --offset 1024 \
			--pbkdf-force-iterations 1000 --luks2-metadata-size 16k \
			--luks2-keyslots-size 272k v2.luks key
	fi
	qemu-img create -q -f qcow2 -o data_file=data.raw data.qcow2 4M
	qemu-io "${io[@]}" data.qcow2
	if has qcow; then
		qemu-img create -q -f qcow a.qcow 4M
		qemu-io "${io[@]}" a.qcow
	fi
	if has vmdk; then
		qemu-img create -q -f vmdk a.vmdk 4M
		qemu-io "${io[@]}" a.vmdk
		qemu-img convert -f raw -O vmdk -o subformat=streamOptimized text.raw \
			stream.vmdk
		head -c 1536 text.raw | cat text.raw - >odd.raw
		qemu-img convert -f raw -O vmdk -o subformat=streamOptimized odd.raw \
			odd.vmdk
	fi
}
(make_good) >"$T/make.out" 2>&1 || fail "cannot make images: $(cat "$T/make.out")"
python3 "$TOP/tests/lib/hostile_images.py" "$d" >"$T/list" ||
	fail "cannot make the bad ones"

bad=0 n=0
wrong()
{
	bad=$((bad + 1))
	echo "WRONG: $name: $*"
	head -n 12 "$T/out"
}
# Sum of the bytes OFFSET+LENGTH of a file.
bytes() { tail -c +$((${2%+*} + 1)) "$1" | head -c "${2#*+}" | cksum; }
# kept FILE WHERE... : as they are in the image itself
kept()
{
	local f=$1 k
	shift
	for k; do
		[ "$k" = - ] || [ "$(bytes "${files%% *}" "$k")" = "$(bytes "$f" "$k")" ] ||
			wrong "bytes at $k were changed ($f)"
	done
}
# tool COMMAND OPTION...: on a copy; status in RC
tool()
{
	cp "${files%% *}" "$T/tool"
	timeout 70 tap-img "$@" -f qcow2 "$T/tool" >"$T/out" 2>&1
	RC=$?
	[ $RC -le 3 ] || wrong "status $RC (tap-img $*)"
	[ $RC = 0 ] || [ -s "$T/out" ] || wrong "no reason (tap-img $*)"
	[ -z "${ONLY:-}" ] || { echo "--- tap-img $*: $RC"; head "$T/out"; }
	# shellcheck disable=SC2086
	kept "$T/tool" $fixed
}
tools()
{
	local op ops=-c
	[ "$(head -c 64 "${files%% *}" | tail -c 4 | tr -d '\0')" = "" ] || ops='-c -a -d'
	tool check -q -r all
	for op in $ops; do
		tool snapshot $op one
		[ $RC = 0 ] || cmp -s "${files%% *}" "$T/tool" ||
			wrong "snapshot $op refused, and changed it"
		[ $RC != 0 ] || tap-img check -q -f qcow2 "$T/tool" >"$T/out" 2>&1 ||
			! tap-img check -q -f qcow2 "${files%% *}" >/dev/null 2>&1 ||
			wrong "snapshot $op of a good image leaves a bad one"
	done
}

# try OPTION...: status in RC
try()
{
	# shellcheck disable=SC2086
	timeout 70 "$TRY" --key "$d/key" "$@" "$spec" $files >"$T/out" 2>&1
	RC=$?
	[ $RC = 0 ] || [ $RC = 3 ] || wrong "status $RC ($*)"
	[ $RC != 3 ] || [ "$(sed -n 's/^refused: //p' "$T/out" | wc -c)" -gt 8 ] ||
		wrong "refused without a reason"
	local kib
	kib=$(sed -n 's/^memory //p' "$T/out")
	[ -n "$SAN" ] || [ "${kib:-0}" -lt 150000 ] || wrong "took $kib KiB"
	[ -z "${ONLY:-}" ] || { echo "--- $*"; cat "$T/out"; }
}
says() { grep -E '^refused: ' "$T/out" | grep -qiE -- "$words"; }
failures() { awk '/^(read|write) / { n += $3 } END { print n + 0 }' "$T/out"; }
# Incompatible bit 1, as od shows the eight bytes.
marked() { [ $((0x$(od -An -tx1 -j79 -N1 "$1" | tr -d ' ') & 2)) != 0 ]; }

while IFS=$'\t' read -r name spec files outcome words keep fixed; do
	[[ $name =~ ^(${ONLY:-.*})$ ]] || continue
	n=$((n + 1))
	try --ro
	case $outcome in
	refuse)
		[ $RC = 3 ] || wrong "opened read-only"
		[ $RC != 3 ] || says || wrong "does not say '$words'" ;;
	ro)	[ $RC = 0 ] || wrong "not opened read-only" ;;
	ro-bad|errors)
		[ $RC = 0 ] || wrong "not opened read-only"
		[ "$(failures)" != 0 ] || wrong "read-only: no errors"
		grep -qE 'damaged|unpacked' "$T/out" || wrong "read-only: no message" ;;
	good)	[ $RC = 0 ] && [ "$(failures)" = 0 ] || wrong "read-only: not good" ;;
	esac
	[ -z "$(sed -n 's/^changed //p' "$T/out")" ] || wrong "changed, read-only"

	try --save "$T/after"
	case $outcome in
	refuse|ro|ro-bad)
		[ $RC = 3 ] || wrong "opened for writing"
		[ $RC != 3 ] || says || wrong "does not say '$words'" ;;
	good)	[ $RC = 0 ] && [ "$(failures)" = 0 ] || wrong "not good" ;;
	corrupt)
		[ $RC = 3 ] || marked "$T/after" || wrong "not marked as corrupt"
		[ $RC = 3 ] || [ "$(failures)" != 0 ] || wrong "no errors" ;;
	corrupt-v2)
		[ $RC = 3 ] || [ "$(failures)" != 0 ] || wrong "no errors" ;;
	esac
	# shellcheck disable=SC2086
	[ ! -e "$T/after" ] || kept "$T/after" $keep
	rm -f "$T/after"
	[ "$outcome" = refuse ] || [ "${spec%%:*}" != qcow2 ] || tools
done <"$T/list"
[ "$n" -gt 0 ] || fail "no image was tried"
[ $bad = 0 ] || fail "$bad of $n"
echo "$n images"
