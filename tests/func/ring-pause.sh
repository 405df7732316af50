#!/bin/bash
# A ring client lives through pauses without noticing, hears of growth, uses it
# at once, and is told when the disk closes; a closed disk says so.  SEED
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
seed
start_ctl
truncate -s 16M "$T/disk.img"
create "aio:$T/disk.img"

# Some pauses come while it works, however fast its requests are and slow those who pause.
for ops in 2000 20000 100000 500000; do
	timeout 300 tap-io -m "$MINOR" --data 32M --queues 2 -c \
		"verify --seed $SEED --ops $ops --depth 32" >"$T/verify.out" 2>&1 &
	job=$!
	n=0
	while kill -0 $job 2>/dev/null && [ $n -lt 8 ]; do
		tap-ctl pause -m "$MINOR" || fail "pause: status $?"
		sleep 0.1
		tap-ctl unpause -m "$MINOR" || fail "unpause: status $?"
		n=$((n + 1))
	done
	wait $job || fail "verify across $n pauses: $(cat "$T/verify.out")"
	[ $n -le 3 ] || break
done
[ $n -gt 1 ] || fail "the job ended before it could be paused"

# One session, fed step by step.
mkfifo "$T/in"
tap-io -m "$MINOR" <"$T/in" >"$T/out" 2>&1 &
job=$!
own $job
exec 3>"$T/in"
said() { [ "$(tail -n 1 "$T/out")" = "$1" ]; }
echo length >&3
wait_for 5 said 16777216 || fail "length: $(cat "$T/out")"
tap-ctl resize -m "$MINOR" 24M >/dev/null || fail "resize: status $?"
echo length >&3
wait_for 5 said 25165824 || fail "length after growth: $(cat "$T/out")"
echo 'write -q -P 9 20M 4k' >&3
echo 'read -q -P 9 20M 4k' >&3
echo length >&3
tap-ctl pause -m "$MINOR" || fail "pause: status $?"
echo 'write -q -P 10 0 4k' >&3		# waits for the unpause
tap-ctl unpause -m "$MINOR" || fail "unpause: status $?"
echo 'read -q -P 10 0 4k' >&3
echo help >&3
wait_for 5 grep -q quit "$T/out" || fail "no answer after a pause"
grep -E 'tap-io:|failed' "$T/out" && fail "a command failed"
tap-ctl close -m "$MINOR" || fail "close: status $?"
echo 'read 0 4k' >&3
exec 3>&-
wait $job
rc=$?
[ $rc = 1 ] || fail "status $rc from a session whose disk has closed"
grep -q 'read: the disk has gone' "$T/out" || fail "it was not told: $(cat "$T/out")"
refuse 2 tap-io -m "$MINOR" -c length
case $ERR in *'the disk is not open'*) ;; *) fail "closed disk: $ERR" ;; esac
destroy "$MINOR"
stop_ctl
