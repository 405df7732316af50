#!/bin/bash
# TIMEOUT: 240
# A daemon, and a tapdisk, that have run out of descriptors: who waits at their door costs
# no time meanwhile, and is let in when there are some again.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq prlimit
start() { start_ctl --tapdisk-arg --no-sandbox; }	# its user is ours
start
create ram:1M
# limit PID N: so many descriptors and no more; fewer than it has already: it gets none.
limit() { prlimit --pid "$1" --nofile="$2": || skip "cannot limit another process"; }
soft=$(prlimit --pid "$CTL_PID" --nofile --raw --noheadings --output SOFT) || skip "cannot ask for limits"
ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; }
# idle PID: one that spins has most of a processor.
idle()
{
	local before after
	before=$(ticks "$1")
	sleep 3
	after=$(ticks "$1")
	[ $((after - before)) -lt $(($(getconf CLK_TCK) / 4)) ] ||
		fail "$2: $((after - before)) ticks in 3 s"
}

limit "$CTL_PID" 3
tap-ctl list >"$T/out" 2>&1 & asker=$!
own $asker
wait_for 5 grep -q 'cannot accept a client, will try again: Too many open files' "$T/ctl.log" ||
	fail "it is let in, or not told: $(cat "$T/out")"
idle "$CTL_PID" "the daemon"
kill -0 $asker || fail "it was turned away: $(cat "$T/out")"
limit "$CTL_PID" "$soft"
wait $asker || fail "it was not let in: $(cat "$T/out")"
grep -q "minor=$MINOR" "$T/out" || fail "$(cat "$T/out")"

limit "$PID" 3
kill_ctl KILL
start
wait_for 5 grep -q 'cannot accept blktapctrl, will try again: Too many open files' "$T/ctl.log" ||
	fail "the tapdisk: $(tap-ctl list)"
idle "$PID" "the tapdisk"
tap-io "$RING" --reconnect 0 -c length >/dev/null 2>&1 && fail "it has descriptors"
limit "$PID" "$soft"
adopted() { [ "$(disk_state "$MINOR")" = running ]; }
wait_for 5 adopted || fail "not adopted: $(tap-ctl list)"
tap-io "$RING" -c 'write 0 4k' >/dev/null || fail "I/O"
destroy "$MINOR"
stop_ctl
