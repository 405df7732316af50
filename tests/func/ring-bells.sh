#!/bin/bash
# No doorbell is lost, in either direction, when both ends sleep all the time.
# ROUNDS: three seconds more for each
set -u
. "$(dirname "$0")/../lib/test.sh"
set --
[ -z "$SAN" ] || set -- --no-sandbox
tapdisk --foreground -m 0 -a null:16M --rundir "$RUN" --poll-us 0 "$@" \
	>"$T/tapdisk.log" 2>&1 &
pid=$!
own $pid
ready() { grep -q serving "$T/tapdisk.log"; }
wait_for 10 ready || fail "tapdisk: $(cat "$T/tapdisk.log")"
secs=$((9 + 3 * ${ROUNDS:-0}))
timeout $((secs + 60)) "$BUILD/func/ringbells" "$RUN/ring0.sock" $secs ||
	fail "$(tail -n 3 "$T/tapdisk.log")"
kill $pid
wait $pid || fail "tapdisk ended with status $?: $(tail "$T/tapdisk.log")"
