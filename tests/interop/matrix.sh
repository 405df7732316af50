#!/bin/bash
# The matrix of image formats: every kind of qcow2, qcow and vmdk image, written by
# QEMU and read by us, written by us and read and checked by QEMU, and written by
# both in turns, against a model; libqcow and libvmdk as third readers.
#
# A short run takes a sample, by SEED, of MATRIX_SECONDS.  LONG=1 without that: all,
# with more rounds.  ONLY=WORD: the cells whose names have it (NAME/a, /b or /c: that
# way), and their files are kept with KEEP=1.  What cannot be tried here is told, with
# its reason, and counted.
# TIMEOUT: 1800
set -u
. "$(dirname "$0")/../lib/test.sh"
requires qemu-img qemu-io qemu-nbd
requires_libnbd
for m in pyqcow pyvmdk; do
	"$PY" -c "import $m" 2>/dev/null || note "without $m: no third opinion"
done
seed
# A short run is ended by time: a slow machine tries fewer.
set -- --seed "$SEED" --budget "${MATRIX_SECONDS:-40}"
[ -z "${LONG:-}" ] || [ -n "${MATRIX_SECONDS:-}" ] || set -- --seed "$SEED" --long
[ -z "${ONLY:-}" ] || set -- "$@" --only "$ONLY"
[ -z "${KEEP:-}" ] || set -- "$@" --keep
mkdir "$T/cells"
PYTHONDONTWRITEBYTECODE=1 "$PY" "$TOP/tests/interop/matrix/main.py" "$T/cells" "$@" ||
	fail "see above; SEED=$SEED ONLY=NAME $0 tries one"
