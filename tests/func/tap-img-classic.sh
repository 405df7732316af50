#!/bin/bash
# img2qcow, qcow2raw and qcow-create take their old arguments and do their old work.
set -u
. "$(dirname "$0")/../lib/test.sh"
cd "$T" || exit 1
random_file a.raw 3
truncate -s 8M a.raw
img2qcow a.qcow a.raw || fail img2qcow
tap-img info a.qcow | grep -qx 'file format: qcow' || fail "not qcow: $(tap-img info a.qcow)"
qcow2raw b.raw a.qcow || fail qcow2raw
cmp a.raw b.raw || fail "another disk came back"
echo n | qcow2raw b.raw a.qcow >/dev/null && fail "overwrote what it was told not to"
echo y | qcow2raw b.raw a.qcow >/dev/null || fail "did not overwrite"
refuse 1 qcow2raw b.raw a.raw
for f in qcow qcow2; do
	qcow-create -f $f 8 e.img || fail "qcow-create -f $f"
	truncate -s 8M z.raw
	tap-img compare -q -f $f -F raw e.img z.raw || fail "-f $f: not zeroes"
	tap-img info --output=json e.img | grep -q '"virtual-size": 8388608' ||
		fail "-f $f: not 8 MiB: $(tap-img info e.img)"
	qcow-create -f $f 8 o.img a.raw || fail "qcow-create with a backing file"
done
qcow-create -f qcow2 8 o.img a.qcow || fail "qcow-create on a qcow file"
tap-img compare -q -f qcow2 -F raw o.img a.raw || fail "does not show its backing file"
# What a backing file says of its own, and we do not know, is not guessed.
qemu-img create -q -f qcow2 -u -b a.raw -F vdi vdi.qcow2 8M
qemu-img create -q -f qcow -u -b vdi.qcow2 -F qcow2 on.qcow 8M
tap-img convert -f qcow -O raw on.qcow no.raw 2>/dev/null && fail "vdi was taken for raw"
qcow-create -r -f qcow2 8 r.img || fail "qcow-create -r"
[ "$(du -k r.img | cut -f1)" -ge 8192 ] || fail "-r reserved nothing: $(du -k r.img)"
refuse 1 qcow-create -r 8 r.img
refuse 1 qcow-create x r.img
qcow-create -h | grep -q usage || fail "-h"
qcow-create 8 2>/dev/null && fail "without a file"
true
