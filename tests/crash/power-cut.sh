#!/bin/bash
# A power cut at any moment leaves an image whole (at worst with lost space), with
# everything that was flushed and nothing that was never there: on images of all
# formats, after random requests, over every prefix of what was written and over
# samples of what a disk may make of it.
#
# IMAGE_ROUNDS=N: longer, with N seeds of each.  IMAGES="NAME...": these alone.  A third
# of it with sanitizers, which look at something else.
# TIMEOUT: 300
set -u
. "$(dirname "$0")/../lib/test.sh"
. "$(dirname "$0")/../lib/crash_images.sh"
requires qemu-img qemu-io
seed
RANDOM=$((SEED % 32768))

bad=0 tried=0 missing=
part=1
[ -z "$SAN" ] || part=3
# shellcheck disable=SC2086
for name in ${IMAGES:-$CRASH_NAMES $CRASH_SHRINK}; do
	if ! crash_image "$name"; then
		missing="$missing $name"
		continue
	fi
	for ((i = 0; i < ${IMAGE_ROUNDS:-1}; i++)); do
		long=()
		[ -z "${IMAGE_ROUNDS:-}" ] || long=(--ops $((100 + RANDOM % 500)) \
			--cuts 1000 --judge 30 --depth $((2 + RANDOM % 30)))
		crash_run --ops 150 --cuts $((150 / part)) --judge $((4 / part)) "${long[@]}" \
			--seed $((SEED + i)) >"$T/out" 2>&1
		rc=$?
		if [ $rc != 0 ]; then
			bad=$((bad + 1))
			echo "$name, seed $((SEED + i)): status $rc ${long[*]}"
			head -n 30 "$T/out"
		fi
	done
	echo "$name: $(tail -n 1 "$T/out")"
	# Many requests and few cuts: space that is freed is used again.
	case $name in
	qcow2-4k|qcow2-512|qcow2-4k-*|qcow2-refs-1|qcow-parent|vmdk-parent)
		crash_run --ops $((2000 / part)) --cuts 10 --judge 1 --depth 40 --seed "$SEED" \
			>"$T/out" 2>&1 || {
			bad=$((bad + 1))
			echo "$name, seed $SEED: many requests"
			head -n 30 "$T/out"
		} ;;
	esac
	tried=$((tried + 1))
	rm -rf "${T:?}/$name"
done

# What finds nothing may be blind: a disk that forgets flushes must be noticed.
crash_image raw
found=0
for ((i = 1; i <= 10 && !found; i++)); do
	crash_run --ops 150 --cuts 150 --judge 0 --lose 2 --seed $((SEED + i)) \
		>"$T/out" 2>&1 || found=1
done
[ $found = 1 ] || fail "flushes were forgotten, and nothing was found"
[ -z "$missing" ] || echo "not tried:$missing"
[ "$bad" = 0 ] || fail "$bad runs found something"
[ "$tried" -gt 0 ] || fail "nothing was tried"
echo "$tried images"
