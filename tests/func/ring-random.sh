#!/bin/bash
# TIMEOUT: 900
# Random overlapping requests through the ring, in each of its three layouts,
# with one queue and several, give what a model in memory allows; at the end the
# file holds what the ring says.  SEED, OPS, LONG=1: many more
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
seed
ops=${OPS:-6000}
[ -n "${LONG:-}" ] && ops=${OPS:-150000}
[ -n "$SAN" ] && ops=$((ops / 3))

start_ctl
s=$SEED
for spec in aio ram; do
	#      depth abi queues order
	for how in "32 1 1 0" "16 2 2 1" "64 3 1 2" "128 1 4 0" "1 2 1 0" "200 3 2 3"; do
		s=$((s + 1))
		rm -f "$T/disk.img" "$T/dump"
		truncate -s 1M "$T/disk.img"
		case $spec in
		aio) create "aio:$T/disk.img" ;;
		ram) create "ram:1M" ;;
		esac
		# shellcheck disable=SC2086
		set -- $how
		timeout 300 "$BUILD/func/ringmodel" "$RING" "$s" "$ops" "$1" "$2" \
			"$3" "$4" "$T/dump" || fail "$spec, $how, seed $s"
		destroy "$MINOR"
		[ $spec = ram ] || cmp "$T/dump" "$T/disk.img" ||
			fail "$spec, $how: the file holds other data"
	done
done
stop_ctl
