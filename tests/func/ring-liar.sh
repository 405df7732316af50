#!/bin/bash
# A ring client that lies in every field of the hello and of the ring, shrinks
# and punches its memory, floods its doorbells, dies with I/O in flight, or says
# nothing, gets an error or is cut off; others are served all the while, and the
# tapdisk keeps nothing of it.  The same with a journal, and when the tapdisk was
# replaced and they come back.  SEED
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
seed
start_ctl
truncate -s 8M "$T/disk.img"
create "aio:$T/disk.img"
before=$(fds_at_rest "$PID")
timeout 500 "$BUILD/func/ringliar" "$RING" "$SEED" || fail "seed $SEED"
kill -0 "$PID" || fail "the tapdisk has died"
same_fds() { [ "$(fds "$PID")" = "$before" ]; }
wait_for 5 same_fds || fail "descriptors: $before before, $(fds "$PID") after"
[ "$(disk_state "$MINOR")" = running ] || fail "state: $(disk_state "$MINOR")"
unmapped() { ! grep -q 'memfd:' "/proc/$PID/maps"; }	# when the last of their requests have ended
wait_for 5 unmapped || fail "memory of clients is still mapped"
destroy "$MINOR"
stop_ctl

# With a journal.
up()
{
	local n
	n=$(grep -c serving "$T/ctl.log")
	tapdisk --foreground -m 0 -a "aio:$T/disk.img" --rundir "$RUN" \
		--journal "$T/journal" "$@" >>"$T/ctl.log" 2>&1 &
	echo $! >"$T/pid"
	until [ "$(grep -c serving "$T/ctl.log")" -gt "$n" ]; do
		! gone "$(cat "$T/pid")" || fail "tapdisk does not start: $(tail -n 2 "$T/ctl.log")"
		sleep 0.01
	done
}
# With all its threads, whoever reaps it.
ended()
{
	gone "$1" || { [ "$(ls "/proc/$1/task" 2>/dev/null | wc -l)" -le 1 ] &&
		! grep -q '^State:.[^Z]' "/proc/$1/status" 2>/dev/null; }
}
replace()
{
	local pid
	pid=$(cat "$T/pid")
	kill -KILL "$pid"
	until ended "$pid"; do sleep 0.01; done
	up --recover $NO_SANDBOX
}
NO_SANDBOX=
[ -z "$SAN" ] || NO_SANDBOX=--no-sandbox
{
	echo '#!/bin/bash'
	declare -p T RUN NO_SANDBOX
	declare -f up replace gone ended fail
	echo replace
} >"$T/replace"
chmod +x "$T/replace"
mkdir -p "$RUN"
up $NO_SANDBOX
PID=$(cat "$T/pid")
at_exit 'kill -KILL $(cat "$T/pid") 2>/dev/null'
timeout 500 "$BUILD/func/ringliar" "$RUN/ring0.sock" "$SEED" || fail "seed $SEED, journal"
[ "$(cat "$T/pid")" = "$PID" ] && kill -0 "$PID" || fail "the tapdisk has died"
left() { du -k "$T/journal" | cut -f 1; }
only_the_table() { [ "$(left)" -le 4 ]; }
wait_for 5 only_the_table || fail "journals of clients who have gone: $(left) KiB"
timeout 500 "$BUILD/func/ringliar" "$RUN/ring0.sock" "$SEED" "$T/replace" ||
	fail "seed $SEED, those who come back"
