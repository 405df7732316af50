#!/bin/bash
# TIMEOUT: 120
# Chains of images: one that comes back to itself is refused, however it is made, and
# so is one that is too deep; what each layer of a deep one has is read from it; and
# formats mix.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq qemu-img qemu-io
I=$T/img
mkdir "$I"
cd "$I" || exit 1
make() { qemu-img create -q -f qcow2 "$@" || fail "qemu-img create $*"; }

start_ctl

# a -> b -> a, and a -> a.
make a 4M
make -b a -F qcow2 b
qemu-img rebase -u -f qcow2 -b b -F qcow2 a || fail rebase
make self 4M
qemu-img rebase -u -f qcow2 -b self -F qcow2 self || fail rebase
for top in a b self; do
	refuse 40 within5 tap-ctl create -a "qcow2:$I/$top" -R
	case $ERR in *"comes back to the same file"*) ;; *) fail "$ERR" ;; esac
done
# By another name of the same file.
make c 4M
ln c other
qemu-img rebase -u -f qcow2 -b other -F qcow2 c || fail rebase
refuse 40 within5 tap-ctl create -a "qcow2:$I/c" -R
case $ERR in *"comes back to the same file"*) ;; *) fail "$ERR" ;; esac
# Given explicitly.
make -b a -F qcow2 -u d 4M
make -b d -F qcow2 -u e 4M
refuse 40 within5 tap-ctl create -R -a "qcow2:$I/e" --backing "qcow2:$I/d" \
	--backing "qcow2:$I/e"

# 30 layers, each with a block of its own, on vmdk on raw.
truncate -s 4M base
qemu-io -f raw -c 'write -P 200 0 4M' base >/dev/null || fail qemu-io
qemu-img convert -f raw -O vmdk base l0 || fail convert
below=l0 fmt=vmdk
for ((i = 1; i <= 30; i++)); do
	make -b $below -F $fmt l$i
	qemu-io -f qcow2 -c "write -P $i $((i * 64))k 4k" l$i >/dev/null || fail qemu-io
	below=l$i fmt=qcow2
done
create "qcow2:$I/l30"
for ((i = 1; i <= 30; i++)); do
	reads+=(-c "read -P $i $((i * 64))k 4k" -c "read -P 200 $((i * 64 + 4))k 60k")
done
tap-io -m 0 "${reads[@]}" -c 'read -P 200 2M 2M' >"$T/out" || fail "$(cat "$T/out")"
tap-io -m 0 -c 'write -P 99 66k 1k' -c 'read -P 1 64k 2k' -c 'read -P 99 66k 1k' \
	-c 'read -P 1 67k 1k' -c 'read -P 200 68k 4k' >"$T/out" || fail "$(cat "$T/out")"
destroy 0
qemu-img check -q l30 || fail "qemu-img check"
qemu-io -f qcow2 -c 'read -P 1 64k 2k' -c 'read -P 99 66k 1k' -c 'read -P 1 67k 1k' \
	-c 'read -P 200 68k 60k' -c 'read -P 30 1920k 4k' l30 | grep -q 'failed' &&
	fail "qemu-io reads something else"

# Too deep.
make p0 1M
for ((i = 1; i <= 205; i++)); do
	make -b p$((i - 1)) -F qcow2 p$i
done
refuse any within5 tap-ctl create -R -a "qcow2:$I/p205"
case $ERR in *"more than 200 images"*) ;; *) fail "$ERR" ;; esac
create "qcow2:$I/p190" -R
tap-io -m 0 -c 'read -P 0 0 1M' >/dev/null || fail "190 layers are not read"
stop_ctl
rundir_empty || fail "left: $(ls -A "$RUN")"
