#!/bin/bash
# TIMEOUT: 240
# Several fio clients write and verify one disk at once, each its own part,
# while the disk is paused and unpaused, clients are killed in the middle of
# their work, and others come and go.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires fio jq nbdinfo
seed
rounds=2
[ -n "${LONG:-}" ] && rounds=20

truncate -s 256M "$T/disk.img"
start_ctl
create "aio:$T/disk.img"
before=$(fds_at_rest "$PID")

# victim: works until it is killed; on the last part of the disk
victim()
{
	exec fio --name=victim --ioengine=nbd --uri="$URI" --rw=randrw --bs=64k \
		--iodepth=32 --offset=192M --size=64M --time_based --runtime=60 \
		--thread >/dev/null 2>&1
}

for ((r = 0; r < rounds; r++)); do
	jobs=()
	for part in 0 1 2; do
		fio --name="part$part" --ioengine=nbd --uri="$URI" --thread \
			--offset=$((part * 64))M --size=64M --rw=randwrite \
			--bssplit=4k/60:512/10:60k/20:1m/10 --blockalign=512 \
			--iodepth=$((8 << part)) --randseed=$((SEED + r)) \
			--verify=crc32c --verify_fatal=1 --verify_state_save=0 \
			--output="$T/fio.$part" >/dev/null 2>"$T/err.$part" &
		jobs+=($!)
		own $!
	done
	victim &
	v=$!
	own $v
	for _ in 1 2 3; do
		sleep 0.2
		tap-ctl pause -m "$MINOR" >"$T/out" 2>&1 || fail "pause: $(cat "$T/out")"
		tap-ctl unpause -m "$MINOR" >"$T/out" 2>&1 ||
			fail "unpause: $(cat "$T/out")"
		nbdinfo --size "$URI" >/dev/null || fail "a new client is not served"
	done
	kill -KILL $v
	wait $v 2>/dev/null
	for part in 0 1 2; do
		wait "${jobs[part]}" || fail "part $part, round $r (seed $SEED):" \
			"$(cat "$T/err.$part"; tail -n 5 "$T/fio.$part")"
	done
done
all_gone() { [ "$(fds "$PID")" = "$before" ]; }
wait_for 5 all_gone || fail "$(fds "$PID") descriptors, $before before: clients leak"
destroy "$MINOR"
stop_ctl
