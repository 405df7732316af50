#!/bin/bash
# TIMEOUT: 300
# Random overlapping requests through the ring, in each of its three layouts,
# with one queue and several, give what a model in memory allows; NBD and the
# file then hold the same.  SEED, OPS, LONG=1: many more
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq nbdcopy
seed
ops=${OPS:-6000}
[ -n "${LONG:-}" ] && ops=${OPS:-150000}
case $SAN in
"") ;;
thread) ops=$((ops / 10)) ;;
*) ops=$((ops / 3)) ;;
esac

start_ctl
s=$SEED
for spec in aio ram; do
	#      depth layout queues order bs
	for how in "32 native 1 0 64k" "16 x86_32 2 1 4k" "64 x86_64 1 2 1M" \
			"128 native 4 0 16k" "1 x86_32 1 0 256k" "200 x86_64 2 3 8k"; do
		s=$((s + 1))
		truncate -s 0 "$T/disk.img"
		truncate -s 1M "$T/disk.img"
		case $spec in
		aio) create "aio:$T/disk.img" ;;
		ram) create "ram:1M" ;;
		esac
		# shellcheck disable=SC2086
		set -- $how
		timeout 280 tap-io "$RING" --abi "$2" --queues "$3" --order "$4" \
			--data 512M -c "verify --seed $s --ops $ops --depth $1 --bs $5" ||
			fail "$spec, $how, seed $s"
		nbdcopy "$URI" "$T/dump" || fail "nbdcopy"
		destroy "$MINOR"
		[ $spec = ram ] || cmp "$T/dump" "$T/disk.img" ||
			fail "$spec, $how: the file holds other data"
	done
done
stop_ctl
