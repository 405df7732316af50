#!/bin/bash
# nbdinfo and nbdcopy: what is told of an export is true, copies are exact in
# both directions, over several connections, through a pause, and holes stay
# holes.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires nbdinfo nbdcopy jq qemu-img
size=64

truncate -s ${size}M "$T/disk.img"
start_ctl
create "aio:$T/disk.img"

info()
{
	nbdinfo --json "$1" >"$T/info" || fail "nbdinfo $1"
	jq -e "$2" "$T/info" >/dev/null || fail "not so: $2: $(cat "$T/info")"
}
info "$URI" '.protocol == "newstyle-fixed" and .structured and (.TLS | not)'
info "$URI" ".exports[0].\"export-size\" == $((size << 20))"
info "$URI" '.exports[0] | .is_read_only == false and .can_flush and .can_fua and
	.can_trim and .can_zero and .can_fast_zero and .can_cache and .can_df and
	.can_multi_conn'
info "$URI" '.exports[0] | .block_size_minimum == 1 and
	.block_size_preferred == 4096 and .block_size_maximum == 33554432'
info "$URI" '.exports[0].contexts == ["base:allocation"]'

# The names of the one disk, and no others.
for name in "$MINOR" tapdisk_client ''; do
	nbdinfo --size "nbd+unix:///$name?socket=$NBD" >/dev/null ||
		fail "no export '$name'"
done
nbdinfo "nbd+unix:///other?socket=$NBD" >/dev/null 2>&1 &&
	fail "an export 'other' was let in"
nbdinfo --list --json "$URI" >"$T/list" || fail "nbdinfo --list"
[ "$(jq -r '.exports[]."export-name"' "$T/list")" = "$MINOR" ] ||
	fail "the list is $(cat "$T/list")"
# TLS is refused; who insists on it is not served in the clear
nbdinfo --size "nbds+unix:///?socket=$NBD" >/dev/null 2>&1 &&
	fail "TLS was required, and yet served"

# A sparse file through the disk and back.
random_file "$T/part" 8
truncate -s ${size}M "$T/src.img"
for at in 0 13 40; do
	dd if="$T/part" of="$T/src.img" bs=1M seek=$at conv=notrunc status=none
done
nbdcopy --destination-is-zero "$T/src.img" "$URI" || fail "nbdcopy in"
nbdcopy --connections=4 --requests=64 "$URI" "$T/back.img" || fail "nbdcopy out"
cmp "$T/src.img" "$T/back.img" || fail "the copy differs"
nbdinfo --map --json "$URI" >"$T/map" || fail "nbdinfo --map"
data=$(jq '[.[] | select(.type == 0) | .length] | add' "$T/map")
all=$(jq '[.[].length] | add' "$T/map")
[ "$all" = $((size << 20)) ] || fail "the map covers $all bytes"
[ "$data" = $((24 << 20)) ] || fail "the map has $data bytes of data"

# From disk to disk, by NBD alone; sync goes through as flushes.
first=$URI
truncate -s ${size}M "$T/second.img"
create "aio:$T/second.img"
nbdcopy --flush "$first" "$URI" || fail "nbdcopy from disk to disk"
cmp "$T/src.img" "$T/second.img" || fail "the second disk differs"

# Pauses in the middle of a copy are only delays.
nbdcopy --request-size=65536 "$first" "$T/slow.img" &
copy=$!
own $copy
for _ in 1 2 3; do
	tap-ctl pause -m 0 >"$T/out" 2>&1 || fail "pause: $(cat "$T/out")"
	sleep 0.1
	tap-ctl unpause -m 0 >"$T/out" 2>&1 || fail "unpause: $(cat "$T/out")"
done
wait $copy || fail "nbdcopy through pauses"
cmp "$T/src.img" "$T/slow.img" || fail "the copy through pauses differs"

# Read-only: told, and held to.
destroy "$MINOR"
create "aio:$T/second.img" -R
info "$URI" '.exports[0] | .is_read_only and (.can_trim | not) and (.can_zero | not)'
nbdcopy "$T/src.img" "$URI" >/dev/null 2>&1 && fail "a read-only disk was written"
cmp "$T/src.img" "$T/second.img" || fail "a read-only disk has changed"

# A long write of whole clusters copies nothing of the image below, however large
# they are.
destroy "$MINOR"
qemu-img create -q -f qcow2 -o cluster_size=1M -b second.img -F raw "$T/top.qcow2" ||
	fail "qemu-img create"
create "qcow2:$T/top.qcow2"
nbdcopy --request-size=1048576 "$first" "$URI" || fail "nbdcopy into an overlay"
tap-ctl stats -m "$MINOR" >"$T/stats" || fail "tap-ctl stats"
jq -e '[.. | .allocated? // empty] | add > 0' "$T/stats" >/dev/null ||
	fail "nothing was allocated: $(cat "$T/stats")"
jq -e '[.. | .copied? // empty] | add == 0' "$T/stats" >/dev/null ||
	fail "it was copied from below: $(cat "$T/stats")"
stop_ctl
