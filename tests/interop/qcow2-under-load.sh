#!/bin/bash
# TIMEOUT: 120
# qcow2 images that once were lost or stood still: resized after discards at their end,
# or without success; many requests whose tables are not in the cache, at once, also
# where all tables are shared with a snapshot.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq qemu-img qemu-io fio
fio --enghelp=nbd 2>&1 | grep -q uri || skip "fio has no nbd engine"
cd "$T" || exit 1
start_ctl
qio() { qemu-io -t none -f raw "$URI" "$@" >/dev/null || fail "qemu-io $*"; }
is_whole()	# IMAGE
{
	destroy "$MINOR"
	qemu-img check -q "$1" || fail "qemu-img check $1"
	qemu-io -f qcow2 -r -c 'read -P 1 0 64k' "$1" | grep -q failed && fail "$1: lost"
}
load()	# FIO OPTIONS: it ends
{
	timeout 200 fio --name=l --ioengine=nbd --uri="$URI" --thread --iodepth=63 \
		--iodepth_batch_submit=63 --bs=4k "$@" >"$T/fio.out" 2>&1 ||
		fail "fio $*: status $?: $(tail -n 3 "$T/fio.out")"
}

qemu-img create -q -f qcow2 tail.qcow2 512M
create "qcow2:$T/tail.qcow2"
qio -c 'write -P 1 0 64k' -c 'write 1M 896k' -c flush -c 'discard 1M 896k' -c flush
sleep 0.2
qio -c flush -c 'write 4M 128k' -c 'write 5M 640k' -c 'write 6M 384k' -c flush \
	-c 'discard 5M 640k' -c 'discard 6M 384k' -c flush
sleep 0.2
qio -c flush
tap-ctl resize -m "$MINOR" 2G || fail resize
is_whole tail.qcow2

# More than the host's file system can have.
qemu-img create -q -f qcow2 -o data_file="$T/data.raw" data.qcow2 4M
create "qcow2:$T/data.qcow2"
qio -c 'write -P 1 0 1M' -c flush
refuse any tap-ctl resize -m "$MINOR" 64T
is_whole data.qcow2

qemu-img create -q -f qcow2 -o cluster_size=4k,preallocation=full shared.qcow2 128M
qemu-io -f qcow2 -c 'write -P 1 0 64k' shared.qcow2 >/dev/null
qemu-img snapshot -c s shared.qcow2
create "qcow2:$T/shared.qcow2"
load --rw=trim:2044k --offset=2m --size=124m
is_whole shared.qcow2

qemu-img create -q -f qcow2 -o cluster_size=4k,preallocation=full cold.qcow2 256M
qemu-io -f qcow2 -c 'write -P 1 0 64k' cold.qcow2 >/dev/null
for i in 1 2 3 4 5 6; do
	create "qcow2:$T/cold.qcow2"
	load --rw=randread --size=256m --io_size=512k --randseed="$i" --norandommap
	is_whole cold.qcow2
done
stop_ctl
