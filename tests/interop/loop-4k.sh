#!/bin/bash
# TIMEOUT: 240
# A block device with sectors of 4096 bytes takes requests of 512 bytes, 32 at a
# time, neighbours in one block included; and of one with 512-byte sectors.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires fio nbdcopy losetup jq
requires_root "loop devices"
seed
size=32

start_ctl
for sector in 4096 512; do
	truncate -s ${size}M "$T/back.img"
	dev=$(losetup -f --show -b $sector "$T/back.img" 2>"$T/losetup.err") ||
		skip "no loop device: $(head -n 1 "$T/losetup.err")"
	at_exit "losetup -d $dev 2>/dev/null"
	create "aio:$dev"
	for o in "--bs=512 --size=4M" "--bssplit=512/40:1k/20:3k/20:4k/10:20k/10" \
			"--bs=512 --rw=write --size=2M" "--bs=4k" "--bs=1m"; do
		# shellcheck disable=SC2086
		fio_nbd "$URI" --rw=randwrite --iodepth=32 --size=${size}M \
			--blockalign=512 --randseed="$SEED" --serialize_overlap=1 \
			--verify=crc32c --verify_fatal=1 $o ||
			fail "sectors of $sector, $o (seed $SEED)"
		note "ok: sectors of $sector, $o"
	done
	fio_nbd "$URI" --rw=trimwrite --bs=64k --iodepth=8 --size=${size}M \
		--verify=crc32c --verify_fatal=1 || fail "trims, sectors of $sector"
	hash=$(nbd_hash "$URI")
	destroy "$MINOR"
	[ "$hash" = "$(file_hash "$dev")" ] || fail "the device holds other data"
	losetup -d "$dev"
	rm "$T/back.img"
done
stop_ctl
