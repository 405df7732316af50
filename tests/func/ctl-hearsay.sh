#!/bin/bash
# TIMEOUT: 120
# The next daemon asks a tapdisk what it serves, and compares that with what the one
# before it has written down: a tapdisk that somebody has taken over gets no other file
# by it, for itself or for what takes its place.  What is not written down is served on,
# and no more.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
mkdir "$T/modes" "$T/fake" "$T/img" "$T/host"
truncate -s 1M "$T/img/a.img"
yes secret | head -c 1M >"$T/host/secret"
cp "$T/host/secret" "$T/secret.orig"
cp "$BUILD/func/faketap" "$T/fake/tapdisk" || fail "faketap is not built"
is() { [ "$(disk_state "$MINOR")" = "$1" ]; }
logged() { grep -q -- "$1" "$T/ctl.log"; }
# The next daemon, and what is logged from then on.
next_ctl() { : >"$T/ctl.log"; start_ctl; }

for lie in "$T/host/secret" "$T/img/a.img"; do
	echo "spec:aio:$lie" >"$T/modes/0"
	start_ctl --tapdisk "$T/fake/tapdisk" --tapdisk-arg --modes --tapdisk-arg "$T/modes"
	create "aio:$T/img/a.img" -R
	kill_ctl
	next_ctl
	wait_for 5 logged "lies about itself (another image" || fail "$lie: $(tap-ctl list)"
	kill -KILL "$PID"
	wait_for 15 taken_over "$MINOR" "$PID" || fail "$lie: $(tap-ctl list)"
	[ "$(disk_json "$MINOR" | jq -c '[.path, .read_only]')" = "[\"$T/img/a.img\",true]" ] ||
		fail "$lie: it is $(disk_json "$MINOR")"
	tap-io -m "$MINOR" -c 'read -P 0 0 1M' >"$T/out" || fail "$lie: $(cat "$T/out")"
	! tap-io -m "$MINOR" -c 'write -P 7 0 4k' >"$T/out" 2>&1 || fail "$lie: it is writable"
	cmp "$T/host/secret" "$T/secret.orig" || fail "another file was written to"
	destroy "$MINOR"
	stop_ctl
done

# --- what is being opened has no name yet, or the name of what it had: that is no lie
# (tap-ctl says "opening" of one that is yet to be started, too.)
for n in 1 2; do
	echo "opens:$n" >"$T/modes/0"
	: >"$T/ctl.log"
	start_ctl --tapdisk "$T/fake/tapdisk" --tapdisk-arg --modes --tapdisk-arg "$T/modes"
	if [ $n = 1 ]; then
		tap-ctl create -a "aio:$T/img/a.img" >"$T/out" 2>&1 &
	else
		create "aio:$T/img/a.img"
		tap-ctl close -p "$PID" -m 0 || fail "close"
		tap-ctl open -p "$PID" -m 0 -a "aio:$T/host/secret" -R >"$T/out" 2>&1 &
	fi
	opens=$!
	wait_for 15 logged "opens, and will not end" || fail "$n: $(tap-ctl list)"
	kill_ctl
	wait $opens
	next_ctl
	wait_for 15 logged "is being opened" || fail "$n: $(cat "$T/ctl.log")"
	! logged "lies about itself" || fail "$n: $(cat "$T/ctl.log")"
	[ $n = 1 ] || tap-ctl destroy -m 0 -f || fail "destroy"
	stop_ctl
done

# --- nothing was written down
unknown()
{
	create "aio:$T/img/a.img"
	kill_ctl
	rm "$RUN/disk$MINOR" "$RUN/disk$MINOR".* || fail "$(ls "$RUN")"
	next_ctl
	wait_for 5 logged "nothing but its tapdisk says" || fail "$(cat "$T/ctl.log")"
	tap-io -m "$MINOR" -c 'write -P 7 0 4k' -c 'read -P 7 0 4k' >"$T/out" ||
		fail "it is not served: $(cat "$T/out")"
}
start_ctl
unknown
kill -KILL "$PID"
wait_for 15 is dead || fail "replaced: $(tap-ctl list)"
destroy "$MINOR"

unknown
tap-ctl pause -m "$MINOR" || fail "pause"
refuse 1 tap-ctl unpause -m "$MINOR"
[[ $ERR == *"only its tapdisk says what its image is"* ]] || fail "$ERR"
is paused || fail "$(tap-ctl list)"
tap-ctl unpause -m "$MINOR" -a "aio:$T/img/a.img" || fail "unpause"
kill -KILL "$PID"
wait_for 15 taken_over "$MINOR" "$PID" || fail "not replaced: $(tap-ctl list)"
destroy "$MINOR"
stop_ctl
