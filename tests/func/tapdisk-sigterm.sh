#!/bin/bash
# TIMEOUT: 180
# SIGTERM to a tapdisk drains it, also when it is in the middle of a pause, or is told
# to pause then: what a client has sent is answered and in the file.  Nobody takes its
# place, whoever is there to see it; but if a second signal has cut it short, somebody
# does.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
truncate -s 1M "$T/a.img"

start_ctl
# Signals that are pending together are one: the first is taken before what follows.
taken() { (((0x$(awk '/^ShdPnd/ { print $2 }' "/proc/$1/status") & 0x4000) == 0)); }
pausing() { [ "$(disk_state 0)" = pausing ]; }

for during in nothing pause end; do
	create "delay:ms=12000,op=write|aio:$T/a.img"
	pid=$(tapdisk_pids)
	tap-io -m 0 -c 'write -P 7 0 4k' >"$T/out" 2>&1 &
	writer=$!
	wait_for 5 in_flight 0 || fail "it does not write: $(cat "$T/out")"
	if [ $during = pause ]; then
		tap-ctl pause -m 0 >/dev/null 2>&1 &
		pauser=$!
		wait_for 5 pausing || fail "it does not pause: it is $(disk_state 0)"
	fi
	kill -TERM "$pid"
	if [ $during = end ]; then
		wait_for 5 taken "$pid" || fail "it takes no signal"
		refuse 6 tap-ctl pause -m 0
	fi
	wait $writer || fail "during $during: the write was lost: $(cat "$T/out")"
	[ $during != pause ] || wait $pauser
	wait_for 5 gone "$pid" || fail "during $during: it does not leave"
	[ "$(head -c 4096 "$T/a.img" | tr -d '\007' | wc -c)" = 0 ] ||
		fail "during $during: the file has other bytes"
	is_dead() { [ "$(disk_state 0)" = dead ]; }
	wait_for 5 is_dead || fail "during $during: it is $(disk_state 0)"
	destroy 0
	truncate -s 0 "$T/a.img"
	truncate -s 1M "$T/a.img"
done

# The daemon has adopted it, or comes when it has ended.
is() { [ "$(disk_state "$MINOR")" = "$1" ]; }
for daemon in another none; do
	create "aio:$T/a.img"
	kill_ctl
	[ $daemon = none ] || start_ctl
	kill -TERM "$PID"
	wait_for 15 gone "$PID" || fail "it does not leave"
	[ $daemon = another ] || start_ctl
	wait_for 15 is dead || fail "$daemon: it is $(disk_state "$MINOR")"
	sleep 0.5
	is dead || fail "$daemon: it is $(disk_state "$MINOR")"
	destroy "$MINOR"
done

# What it had in hand is not lost with it.  (Busy machines have time for both signals.)
create "delay:ms=12000,op=write|aio:$T/a.img"
tap-io -m "$MINOR" -c 'write -P 9 0 4k' >"$T/out" 2>&1 &
writer=$!
wait_for 15 in_flight "$MINOR" || fail "it does not write: $(cat "$T/out")"
kill -TERM "$PID"
wait_for 5 taken "$PID" || fail "it takes no signal"
kill -TERM "$PID"
wait_for 15 gone "$PID" || fail "it does not leave"
wait $writer || fail "cut short: the write was lost: $(cat "$T/out")"
wait_for 15 is running || fail "cut short: it is $(disk_state "$MINOR")"
destroy "$MINOR"
stop_ctl
