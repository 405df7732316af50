#!/bin/bash
# TIMEOUT: 240
# Statistics of all disks: every tapdisk is asked before any has answered, so those that
# hang cost the time of one; they are told of, the others are there.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
start_ctl --debug ctl
pids=()
for _ in 0 1 2 3; do
	create ram:1M
	pids+=("$PID")
done
asked() { [ "$(grep -c 'asked to tell statistics' "$T/ctl.log")" = $((before + $1)) ]; }
begin_all()
{
	before=$(grep -c 'asked to tell statistics' "$T/ctl.log")
	tap-ctl stats >"$T/out" 2>"$T/err" &
	asker=$!
	own $asker
}
have() { jq -c '[.[].minor]' "$T/out"; }
at_exit 'kill -CONT ${pids[*]} 2>/dev/null'

# Three hang: all are asked while all are waited for, and answer when they go on.
kill -STOP "${pids[@]:0:3}"
begin_all
wait_for 10 asked 4 || fail "not all were asked: $(grep asked "$T/ctl.log")"
kill -0 $asker || fail "it has not waited: $(cat "$T/err")"
kill -CONT "${pids[@]:0:3}"
wait $asker || fail "status $?: $(cat "$T/err")"
[ "$(have)" = '[0,1,2,3]' ] || fail "$(cat "$T/out")"
if grep -q 'not answered in time' "$T/ctl.log"; then fail "one was given up before"; fi

# Three hang for good: they are given up together.
kill -STOP "${pids[@]:1:3}"
begin_all
wait_for 10 asked 4 || fail "not all were asked: $(grep asked "$T/ctl.log")"
wait $asker
rc=$?
[ $rc = 110 ] || fail "status $rc: $(cat "$T/err")"
[ "$(have)" = '[0]' ] || fail "$(cat "$T/out")"
for m in 1 2 3; do
	echo "tap-ctl: disk $m: cannot read statistics: Connection timed out"
done | cmp - "$T/err" || fail "$(cat "$T/err")"
kill -CONT "${pids[@]:1:3}"

# One that dies meanwhile takes nobody with it.
kill -STOP "${pids[@]:1:2}"
begin_all
wait_for 10 asked 4 || fail "not all were asked: $(grep asked "$T/ctl.log")"
kill -KILL "${pids[1]}"
kill -CONT "${pids[2]}"
wait $asker
[ "$(have)" = '[0,2,3]' ] || fail "$(cat "$T/out")"
[[ $(cat "$T/err") == "tap-ctl: disk 1: cannot read statistics: "* ]] || fail "$(cat "$T/err")"
[ "$(wc -l <"$T/err")" = 1 ] || fail "$(cat "$T/err")"

# One that has hung for long has been asked a bounded number of times: what it answers
# then, all at once, is no flood.
kill -STOP "${pids[3]}"
before=$(grep -c 'asked to tell statistics' "$T/ctl.log")
askers=
for _ in $(seq 33); do
	tap-ctl stats -m 3 >>"$T/out" 2>&1 &
	askers="$askers $!"
	own $!
done
for p in $askers; do wait "$p" && fail "it has answered: $(cat "$T/out")"; done
asked 32 || fail "asked $(($(grep -c 'asked to tell' "$T/ctl.log") - before)) times"
refuse 6 tap-ctl stats -m 3
[[ $ERR == *"too much waits for it already" ]] || fail "$ERR"
kill -CONT "${pids[3]}"
answers() { tap-ctl stats -m 3 >/dev/null 2>&1; }
wait_for 5 answers || fail "it is not asked any more: $(tail "$T/ctl.log")"
tap-ctl pause -m 3 || fail "pause"
stop_ctl
