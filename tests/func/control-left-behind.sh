#!/bin/bash
# TIMEOUT: 60
# What a daemon leaves behind in a living tapdisk: a close that it took for a
# failure, and questions that its successor knows nothing of.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
truncate -s 1M "$T/a.img"
state() { tap-ctl list --json | jq -r '.[0].state'; }

# --- a last flush that fails is told; the disk is gone all the same.
start_ctl
create "error:op=flush|aio:$T/a.img"
why=$(tap-ctl destroy -m 0 2>&1) && fail "nobody heard of the failed flush"
case $why in *"last flush failed"*) ;; *) fail "destroy says: $why" ;; esac
[ "$(tap-ctl list --json | jq length)" = 0 ] || fail "it is still there"

# --- an open that waits for a dead daemon's file ends, though the tapdisk, which
# is stopped meanwhile, sees no end of file between the old daemon and the new.
pid=$(tap-ctl spawn) && tap-ctl allocate >/dev/null &&
	tap-ctl attach -p "$pid" -m 0 || fail "attach"
kill -STOP "$pid"
tap-ctl open -p "$pid" -m 0 -a "aio:$T/a.img" 2>/dev/null &
asker=$!
is() { [ "$(state)" = "$1" ]; }
wait_for 5 is opening || fail "it is not asked: $(state)"
kill -KILL "$CTL_PID"
{ wait "$CTL_PID"; wait "$asker"; } 2>/dev/null
(sleep 1; kill -CONT "$pid") &
start_ctl
wait_for 5 is closed || fail "it stays: $(state)"
tap-ctl open -p "$pid" -m 0 -a "aio:$T/a.img" || fail "open"
[ "$(state)" = running ] || fail "it is $(state)"
stop_ctl
