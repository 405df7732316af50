#!/bin/bash
# A tapdisk that is killed again and again, at random and at every point of a
# request's way, is replaced, and its client sees pauses and nothing else.  Without
# its journal it does see; and a disk that closes says so.  ROUNDS (10 kills each),
# SEED
set -u
. "$(dirname "$0")/../lib/test.sh"
seed
RANDOM=$((SEED % 32768))
rounds=4
[ -z "$SAN" ] || rounds=1
kills=$((${ROUNDS:-$rounds} * 10))
points=(ring-taken ring-executed ring-answered ring-noted ring-shown ring-pushed
	ring-notified)
common=(--foreground -m 0 -a "aio:$T/disk.img" --rundir "$RUN" --journal "$T/journal")
[ -z "$SAN" ] || common+=(--no-sandbox)
new_disk() { rm -f "$T/disk.img" && truncate -s 8M "$T/disk.img"; }
serving() { [ "$(grep -c serving "$T/ctl.log")" -gt "$lives" ]; }
tapdisk_up()
{
	lives=$(grep -c serving "$T/ctl.log")
	tapdisk "${common[@]}" "$@" >>"$T/ctl.log" 2>&1 &
	pid=$!
	own $pid
}
# reap_it: what became of the tapdisk: killed it must be.
reap_it()
{
	local rc
	wait $pid 2>/dev/null
	rc=$?
	[ $rc = 137 ] || fail "tapdisk ended with status $rc, not by a kill"
}
client_up()
{
	rm -f "$T/client.log"
	wait_for 10 serving || fail "no tapdisk: $(tail "$T/ctl.log")"
	timeout 900 "$BUILD/func/ringkills" "$RUN/ring0.sock" >"$T/client.log" 2>&1 &
	client=$!
	own $client
	wait_for 10 connected || fail "the client: $(cat "$T/client.log")"
}
connected() { grep -qs connected "$T/client.log"; }
client_alive() { kill -0 $client 2>/dev/null || fail "the client: $(cat "$T/client.log")"; }

touch "$T/ctl.log"
new_disk
tapdisk_up
client_up
n=0
while [ $n -lt $kills ]; do
	# A life that gets over what was in flight (64 requests, one at a time while
	# others are served), so that no request is killed three times, and dies at
	# a point of its own.
	if [ $((n % 2)) = 1 ]; then
		tapdisk_up --recover --kill-at \
			"${points[n / 2 % ${#points[@]}]}:$((1200 + RANDOM % 500))"
		late=$(($(date +%s) + 60))
		until gone $pid || [ "$(date +%s)" -gt $late ]; do sleep 0.01; done
		gone $pid || kill -KILL $pid
	elif [ $((RANDOM % 2)) = 0 ]; then
		[ $n = 0 ] || tapdisk_up --recover --kill-at ring-replay:$((1 + RANDOM % 40))
		sleep 0.$((RANDOM % 2))$((RANDOM % 10))
		kill -KILL $pid 2>/dev/null
	else
		[ $n = 0 ] || tapdisk_up --recover
		sleep 0.0$((RANDOM % 10))
		kill -KILL $pid
	fi
	reap_it
	client_alive
	n=$((n + 1))
done
tapdisk_up --recover
sleep 0.2
client_alive
kill -TERM $client
wait $client || fail "seed $SEED: the client: $(cat "$T/client.log")"
cat "$T/client.log"
grep -E ' (err|warn)|has ended' "$T/ctl.log" && fail "a tapdisk complained"

kill -TERM $pid
wait $pid || fail "tapdisk ended with status $? on SIGTERM"

# A goodbye is not waited out.
new_disk
tapdisk_up
client_up
sleep 0.1
kill -TERM $pid
wait $pid || fail "tapdisk ended with status $? on SIGTERM"
wait $client
rc=$?
[ $rc = 2 ] || fail "a disk that was closed: status $rc, $(cat "$T/client.log")"

# And without the journal?
new_disk
tapdisk_up
client_up
sleep 0.1
kill -KILL $pid
reap_it
tapdisk_up
wait $client
rc=$?
[ $rc = 2 ] || fail "a journal that was forgotten: status $rc, $(cat "$T/client.log")"
kill -TERM $pid
wait $pid || fail "tapdisk ended with status $? on SIGTERM"

# Where there is no room for a journal, clients are served without one.
[ "$(id -u)" = 0 ] || exit 0
small_fs "$T/small" size=8k || fail "cannot mount"
new_disk
tapdisk_up --journal "$T/small/journal"
client_up
sleep 0.3
kill -TERM $client
wait $client || fail "no room: the client: $(cat "$T/client.log")"
grep -q 'ring client without a journal' "$T/ctl.log" || fail "there was room"
kill -TERM $pid
wait $pid || fail "no room: tapdisk ended with status $?"
