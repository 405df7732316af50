#!/bin/bash
# A ring client that lies in every field of the hello and of the ring, shrinks
# and punches its memory, floods its doorbells, dies with I/O in flight, or says
# nothing, gets an error or is cut off; others are served all the while, and the
# tapdisk keeps nothing of it.  SEED
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
seed
start_ctl
truncate -s 8M "$T/disk.img"
create "aio:$T/disk.img"
before=$(fds "$PID")
timeout 120 "$BUILD/func/ringliar" "$RING" "$SEED" || fail "seed $SEED"
kill -0 "$PID" || fail "the tapdisk has died"
same_fds() { [ "$(fds "$PID")" = "$before" ]; }
wait_for 5 same_fds || fail "descriptors: $before before, $(fds "$PID") after"
[ "$(disk_state "$MINOR")" = running ] || fail "state: $(disk_state "$MINOR")"
grep -c 'memfd:' "/proc/$PID/maps" | grep -qx 0 ||
	fail "memory of clients is still mapped"
destroy "$MINOR"
stop_ctl
