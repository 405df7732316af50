#!/bin/bash
# TIMEOUT: 300
# fio writes and verifies through NBD: depth 1 to 64, blocks of 512 bytes to
# 1 MiB, mixed, off the host's block size, with trims.  LONG=1: more of each.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires fio nbdcopy jq
seed
size=48 mix=512/30:1k/10:4k/20:4608/10:12k/10:64k/10:127k/5:1m/5
[ -n "${LONG:-}" ] && size=128

truncate -s ${size}M "$T/disk.img"
start_ctl
create "aio:$T/disk.img"

# verify DEPTH OPTION...: written in random order, and read back.  Overlapping
# writes in flight have no result that fio could expect: it avoids them.
verify()
{
	local depth=$1
	shift
	fio_nbd "$URI" --rw=randwrite --iodepth="$depth" --size=${size}M \
		--randseed="$SEED" --serialize_overlap=1 \
		--verify=crc32c --verify_fatal=1 "$@" ||
		fail "depth $depth, $* (seed $SEED)"
	note "ok: depth $depth, $*"
}
for depth in 1 8 64; do
	verify $depth --bs=4k
	verify $depth --bssplit=$mix --blockalign=512
done
verify 16 --bs=512 --size=4M
verify 32 --bs=1m
verify 64 --bs=1536 --blockalign=512 --size=8M
verify 16 --bs=4k --rw=randrw --rwmixread=50

# Trims between writes, and what they leave is zeroes on this driver.
fio_nbd "$URI" --rw=trimwrite --bs=64k --iodepth=16 --size=${size}M \
	--verify=crc32c --verify_fatal=1 || fail "trim and write"
fio_nbd "$URI" --rw=randtrim --bs=64k --iodepth=16 --size=${size}M \
	--randseed="$SEED" || fail "trims"
nbdcopy "$URI" "$T/copy.img" || fail "nbdcopy"
cmp "$T/copy.img" "$T/disk.img" || fail "the export and the file differ"
cmp -n $((size << 20)) "$T/disk.img" /dev/zero ||
	fail "not zeroes after all was trimmed"
[ "$(stat -c %b "$T/disk.img")" -lt 64 ] ||
	fail "trims punched no holes: $(stat -c %b "$T/disk.img") blocks"
destroy "$MINOR"
stop_ctl
