#!/bin/bash
# TIMEOUT: 600
# A ring client whose disk is in an image with tables sees pauses and nothing else
# when the tapdisk is killed and the daemon replaces it: running, paused, and while
# it is being paused or unpaused; and the image is sound in the end.  ROUNDS
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq qemu-img
seed
RANDOM=$((SEED % 32768))
rounds=$(((${ROUNDS:-3} + 2) / 3))
is() { [ "$(disk_state "$MINOR")" = "$1" ]; }
has_one() { old=$(pid_of "$MINOR") && [ "$old" -gt 0 ]; }
# slay: kill its tapdisk.  One that has not lived for a second has crashed, and too
# many of those are not replaced.
slay()
{
	sleep "1.$((RANDOM % 10))"
	wait_for 15 has_one || fail "it has no tapdisk: $(tap-ctl list)"
	kill -KILL "$old" || fail "there is no tapdisk $old"
}
next() # STATE
{
	wait_for 15 taken_over "$MINOR" "$old" "$1" || fail "not replaced: $(tap-ctl list)"
}
client_alive() { kill -0 $client 2>/dev/null || fail "the client: $(cat "$T/client.log")"; }

start_ctl
truncate -s 8M "$T/raw"
qemu-img create -q -f raw "$T/base" 8M
qemu-img create -q -f qcow2 -b "$T/base" -F raw "$T/qcow2" 8M || fail "qemu-img"
for type in aio qcow2; do
	[ $type = aio ] && image=$T/raw || image=$T/qcow2
	create "$type:$image"
	rm -f "$T/client.log"
	timeout 900 "$BUILD/func/ringkills" "$RING" >"$T/client.log" 2>&1 &
	client=$!
	own $client
	wait_for 10 grep -qs connected "$T/client.log" || fail "it does not connect"
	for i in $(seq "$rounds"); do
		slay
		next running
		client_alive
		# While it is paused, and on the way there and back.
		tap-ctl pause -m "$MINOR" >/dev/null || fail "pause"
		slay
		next paused
		tap-ctl unpause -m "$MINOR" >/dev/null || fail "unpause"
		client_alive
		slay &
		killer=$!
		until gone $killer; do
			tap-ctl pause -m "$MINOR" >/dev/null 2>&1
			tap-ctl unpause -m "$MINOR" >/dev/null 2>&1
		done
		wait $killer || fail "no tapdisk to kill"
		wait_for 15 is running || { tap-ctl unpause -m "$MINOR" &&
			wait_for 15 is running; } || fail "not running: $(tap-ctl list)"
		client_alive
	done
	sleep 0.5
	kill -TERM $client
	wait $client || fail "seed $SEED, $type: $(cat "$T/client.log")"
	sed "s/^/$type: /" "$T/client.log"
	destroy "$MINOR"
done
qemu-img check -q "$T/qcow2" >/dev/null
rc=$?
# 3: leaked clusters, of requests that died with a process
[ $rc = 0 ] || [ $rc = 3 ] || fail "qcow2: $(qemu-img check "$T/qcow2" 2>&1)"
grep 'has ended' "$T/ctl.log" && fail "a request was given up"
stop_ctl
