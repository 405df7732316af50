#!/bin/bash
# A process that is killed at any moment takes nothing with it that was answered: the
# next one finds the disk as it was, by the redo log, and the image whole; and a power
# cut while it takes over costs no more than any other.  On images of all formats with
# tables, several kills each, the last of them in the midst of taking over.
#
# IMAGE_ROUNDS=N: longer, with N seeds of each.  IMAGES="NAME...": these alone.
# TIMEOUT: 300
set -u
. "$(dirname "$0")/../lib/test.sh"
. "$(dirname "$0")/../lib/crash_images.sh"
requires qemu-img qemu-io
seed
RANDOM=$((SEED % 32768))
# What has died is never freed.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"

bad=0 tried=0 missing=

try()
{
	local rc=0
	crash_run "$@" >"$T/out" 2>&1 || rc=$?
	[ $rc != 0 ] || return
	bad=$((bad + 1))
	echo "$name: status $rc ($*)"
	head -n 30 "$T/out"
}

# shellcheck disable=SC2086
for name in ${IMAGES:-$CRASH_NAMES}; do
	[ "$name" != raw ] || continue
	if ! crash_image "$name"; then
		missing="$missing $name"
		continue
	fi
	for ((i = 0; i < ${IMAGE_ROUNDS:-1}; i++)); do
		long=()
		[ -z "${IMAGE_ROUNDS:-}" ] || long=(--ops $((10 + RANDOM % 800)) \
			--cuts 400 --judge 20 --depth $((2 + RANDOM % 40)) \
			--kills $((1 + RANDOM % 12)))
		try --kills 5 --ops 200 --cuts 60 --judge 3 "${long[@]}" \
			--seed $((SEED + i))
	done
	echo "$name: $(tail -n 1 "$T/out")"
	# The log gets full.
	case $name in
	qcow2-512|qcow2-512-grow)
		try --kills 3 --ops 3000 --cuts 10 --judge 1 --depth 40 \
			--seed "$SEED" ;;
	esac
	tried=$((tried + 1))
	rm -rf "${T:?}/$name"
done

# What finds nothing may be blind: without the log, each format must be found out.
for name in qcow2-64k qcow2-512 qcow vmdk; do
	crash_image "$name" || continue
	found=0
	for i in 1 2 3 4 5; do
		crash_run --kills 5 --ops 200 --cuts 0 --judge 0 --redo 0 \
			--seed $((SEED + i)) >"$T/out" 2>&1 && continue
		found=1
		grep -q 'hold what they may not' "$T/out" ||
			fail "$name: something else was found: $(cat "$T/out")"
		break
	done
	[ $found = 1 ] || fail "$name: there was no redo log, and nothing was missed"
done
[ -z "$missing" ] || echo "not tried:$missing"
[ "$bad" = 0 ] || fail "$bad runs found something"
[ "$tried" -gt 0 ] || fail "nothing was tried"
echo "$tried images"
