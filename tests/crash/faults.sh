#!/bin/bash
# Whatever fails under an image (no space, a write that fails or lands in part, a
# failed flush), and at whichever step: requests get their answers, the image stays
# whole, nothing flushed is lost, and when space comes back the disk works on.
#
# IMAGE_ROUNDS=N: longer, with N seeds of each.  IMAGES="NAME...": these alone.
# TIMEOUT: 300
set -u
. "$(dirname "$0")/../lib/test.sh"
. "$(dirname "$0")/../lib/crash_images.sh"
requires qemu-img qemu-io
seed

few="raw qcow2-4k qcow2-512-grow qcow2-long-parent qcow2-4k-snapshot
qcow2-4k-compressed qcow2-extended-parent qcow2-data-file qcow2-lazy
qcow-parent qcow-4k vmdk-parent vmdk-zeroed vmdk-split"
[ -z "${IMAGE_ROUNDS:-}" ] || few=$CRASH_NAMES

bad=0 tried=0 missing=
# shellcheck disable=SC2086
for name in ${IMAGES:-$few}; do
	if ! crash_image "$name"; then
		missing="$missing $name"
		continue
	fi
	for ((i = 0; i < ${IMAGE_ROUNDS:-1}; i++)); do
		n=5
		[ -z "$SAN" ] || n=2
		[ -z "${IMAGE_ROUNDS:-}" ] || n=40
		crash_run --ops 80 --faults $n --judge 1 --seed $((SEED + i)) \
			>"$T/out" 2>&1
		rc=$?
		if [ $rc != 0 ]; then
			bad=$((bad + 1))
			echo "$name, seed $((SEED + i)): status $rc"
			head -n 30 "$T/out"
		fi
	done
	echo "$name: $(tail -n 1 "$T/out")"
	tried=$((tried + 1))
	rm -rf "${T:?}/$name"
done
[ -z "$missing" ] || echo "not tried:$missing"
[ "$bad" = 0 ] || fail "$bad runs found something"
[ "$tried" -gt 0 ] || fail "nothing was tried"
echo "$tried images"
