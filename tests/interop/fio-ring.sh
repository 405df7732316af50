#!/bin/bash
# TIMEOUT: 400
# fio writes and verifies through the ring, by our engine for it: depth 1 to 64, blocks of
# 512 bytes to 1 MiB, each layout, several queues; and by itself once more what is in
# the file then.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires fio jq make
requires_no_san "the engine is a part of fio, which has none"
seed
size=32 mix=512/30:1k/10:4k/20:4608/10:12k/10:64k/10:127k/5:1m/5

make -s -C "$TOP" BUILD="$BUILD" CC="${CC:-cc}" fio-engine >"$T/make.out" 2>&1 ||
	fail "make fio-engine: $(cat "$T/make.out")"
[ -e "$BUILD/fio-tapring.so" ] || skip "$(sed 's/^SKIP: //' "$BUILD/fio-headers.why" || tail -n 1 "$T/make.out")"

job() # OPTION...: both have the same
{
	(cd "$T" && fio --name=job --rw=randwrite --size=${size}M --randseed="$SEED" \
		--serialize_overlap=1 --verify=crc32c --verify_fatal=1 \
		--verify_state_save=0 --output="$T/fio.out" "$@" 2>"$T/fio.err") || {
		cat "$T/fio.err"
		grep -E 'err=|verify|fio:' "$T/fio.out" | head -n 20
		return 1
	}
}
by_itself() { job --ioengine=libaio --filename="$T/disk.img" --verify_only "${how[@]}"; }
start_ctl
while read -r -a how; do
	engine=(--ioengine=external:"$BUILD/fio-tapring.so" --sock="$RUN/ring0.sock")
	# What is the engine's, and what the job's?
	while [[ ${how[0]} != --iodepth=* ]]; do
		engine+=("${how[0]}")
		how=("${how[@]:1}")
	done
	rm -f "$T/disk.img" && truncate -s ${size}M "$T/disk.img"
	create "aio:$T/disk.img"
	job "${engine[@]}" "${how[@]}" || fail "${engine[*]:2} ${how[*]} (seed $SEED)"
	destroy "$MINOR"
	by_itself || fail "${engine[*]:2} ${how[*]}: the file holds something else (seed $SEED)"
	note "ok: ${engine[*]:2} ${how[*]}"
done <<END
--iodepth=1 --bssplit=$mix --blockalign=512
--queues=2 --iodepth=8 --bssplit=$mix --blockalign=512
--queues=4 --iodepth=64 --bssplit=$mix --blockalign=512
--abi=x86_32 --indirect=11 --iodepth=32 --bs=44k
--abi=x86_64 --poll_us=50 --iodepth=16 --bs=4k
--order=3 --iodepth=64 --bs=1536 --blockalign=512 --io_size=8M
--iodepth=16 --bs=1m
END

# It would be seen.
printf 'another' | dd of="$T/disk.img" bs=1 seek=$((5 << 20 | 77)) conv=notrunc status=none
by_itself >/dev/null && fail "a changed file passes for what was written"
stop_ctl
