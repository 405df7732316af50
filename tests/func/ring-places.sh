#!/bin/bash
# TIMEOUT: 180
# Clients of a tapdisk that died find their places free at the next one, however many
# others come before them; a place whose client does not come is free in the end.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
PLACES=8
truncate -s 16M "$T/disk.img"
start_ctl
create "aio:$T/disk.img"
served() { tap-ctl stats -m "$MINOR" 2>/dev/null | jq '[.clients[]? | select(.type == "ring")] | length'; }
served_are() { [ "$(served)" = "$1" ]; }

clients=()
for i in $(seq $PLACES); do
	mkfifo "$T/in$i"
	tap-io -m "$MINOR" <"$T/in$i" >"$T/out$i" 2>&1 &
	clients+=($!)
	own $!
	eval "exec $((10 + i))>$T/in$i"
	echo "write -q -P $i ${i}M 4k" >&$((10 + i))
	echo length >&$((10 + i))
done
wait_for 20 served_are $PLACES || fail "served: $(served)"
for i in $(seq $PLACES); do
	wait_for 20 grep -q 16777216 "$T/out$i" || fail "client $i: $(cat "$T/out$i")"
done
refuse 2 tap-io -m "$MINOR" -c length

# They rest, and notice when they are to do something.
kill -KILL "$PID"
wait_for 20 taken_over "$MINOR" "$PID" || fail "not replaced: $(tap-ctl list)"
begun=$SECONDS
for _ in 1 2; do
	refuse 2 timeout 15 tap-io -m "$MINOR" --reconnect 0 -c length
	case $ERR in *'too many'*|*busy*) ;; *) fail "$ERR" ;; esac
done
for i in 1 2 3 4 6 7 8; do
	echo "read -q -P $i ${i}M 4k" >&$((10 + i))
	echo "help" >&$((10 + i))
	wait_for 20 grep -q quit "$T/out$i" || fail "client $i: $(cat "$T/out$i")"
	grep -E 'tap-io:|failed' "$T/out$i" && fail "client $i noticed"
done
# The one that is left never comes: until the time is over its place is its own.
[ $((SECONDS - begun)) -gt 15 ] || refuse 2 timeout 15 tap-io -m "$MINOR" --reconnect 0 -c length
kill -KILL "${clients[4]}"
ninth() { timeout 15 tap-io -m "$MINOR" -c length >/dev/null 2>&1; }
wait_for 45 ninth || fail "its place is not free"
for i in 1 2 3 4 6 7 8; do eval "exec $((10 + i))>&-"; done
for i in 0 1 2 3 5 6 7; do wait "${clients[$i]}" || fail "client $((i + 1)): $(cat "$T/out$((i + 1))")"; done
destroy "$MINOR"
stop_ctl
