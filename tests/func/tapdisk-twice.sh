#!/bin/bash
# A tapdisk of its own takes the sockets of one that has died, not of one that lives:
# also if that is stopped, and so many wait for it that there is room for no more.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires python3
up() { tapdisk --foreground -m 0 -a ram:1M --rundir "$RUN" >>"$T/ctl.log" 2>&1 & pid=$!; own $pid; }
serving() { [ "$(grep -c serving "$T/ctl.log")" = "$1" ]; }
second()
{
	timeout -s KILL 20 tapdisk --foreground -m 0 -a ram:1M --rundir "$RUN" 2>"$T/err" &&
		fail "two serve at once"
	rc=$?
	[ $rc = 1 ] && grep -q "cannot serve at $RUN/ring0.sock: another process does" "$T/err" ||
		fail "status $rc: $(cat "$T/err")"
}
up
wait_for 10 serving 1 || fail "does not serve"
second

kill -STOP $pid
python3 - "$RUN/ring0.sock" <<-'END' >"$T/crowd" &
	import socket, sys, time
	held = []
	try:
	    while True:
	        held.append(socket.socket(socket.AF_UNIX))
	        held[-1].setblocking(False)
	        held[-1].connect(sys.argv[1])
	except BlockingIOError:
	    print("full", flush=True)
	    time.sleep(300)
	END
crowd=$!
own $crowd
wait_for 20 grep -q full "$T/crowd" || fail "its door is never full"
second
kill -KILL $crowd $pid
{ wait $crowd $pid; } 2>/dev/null
[ -S "$RUN/ring0.sock" ] || fail "its socket has gone with it"
up
wait_for 10 serving 2 || fail "it does not take the place of a dead one: $(tail -n 3 "$T/ctl.log")"
tap-io "$RUN/ring0.sock" -c 'write 0 4k' >/dev/null || fail "I/O"
kill $pid && wait $pid || fail "status $?"
