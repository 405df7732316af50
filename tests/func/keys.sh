#!/bin/bash
# TIMEOUT: 120
# Keys reach the tapdisk as their files have them, in order, and are seen nowhere
# on the way: not in command lines, environments, logs or files, nor when a
# tapdisk dumps its state.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
umask 077
mkdir "$T/modes" "$T/fake"
truncate -s 1M "$T/a.img"
one=Sesame-$RANDOM$RANDOM two=$'Mel lon\t'$RANDOM$RANDOM
printf '%s\n' "$one" >"$T/key1"
printf '%s' "$two" >"$T/key2"
cp "$BUILD/func/faketap" "$T/fake/tapdisk" || fail "faketap is not built"
echo keys >"$T/modes/0"

# Everything that processes of this test show, and what the daemon wrote.
nowhere()
{
	local p k
	for p in $CTL_PID $(tapdisk_pids); do
		for k in "$one" "$two"; do
			! grep -aqF -- "$k" "/proc/$p/cmdline" "/proc/$p/environ" ||
				fail "$1: in the arguments of $p"
		done
	done
	for k in "$one" "$two"; do
		! grep -raqF -D skip -- "$k" "$RUN" "$T/ctl.log" ||
			fail "$1: in a log or file"
	done
}
# These keys have come, or come soon: they go another way than what needs them.
got()
{
	printf '%s\n' "$@" >"$T/want"
	wait_for 5 cmp -s "$T/want" "$T/modes/0.keys" || fail "keys differ: $*"
	: >"$T/modes/0.keys"	# it is still open
}

start_ctl --log-level debug --debug all --tapdisk "$T/fake/tapdisk" \
	--tapdisk-arg --modes --tapdisk-arg "$T/modes"
at_rest=$(fds_at_rest "$CTL_PID")
tap-ctl --debug create -a "qcow2:$T/a.img" --key-file "$T/key1" --key-fd 7 \
	7<"$T/key2" >"$T/out" 2>&1 || fail "create: $(cat "$T/out")"
! grep -qF -- "$one" "$T/out" || fail "tap-ctl tells the key"
got "$one" "$two"
nowhere created
tap-ctl pause -m 0 && tap-ctl unpause -m 0 || fail "unpause"
tap-ctl pause -m 0 && tap-ctl unpause -m 0 --key-file - <"$T/key2" || fail "unpause"
got "$two"
tap-ctl close -m 0 && tap-ctl open -m 0 -a "qcow2:$T/a.img" \
	--key-file <(printf %s "$one") || fail "open"
got "$one"
nowhere opened
# The daemon keeps them for the disk, and no longer.
readlink /proc/"$CTL_PID"/fd/* | grep -q '^/memfd:key' || fail "none is kept"
destroy 0
! readlink /proc/"$CTL_PID"/fd/* | grep '^/memfd:key' || fail "some are kept"
rests() { [ "$(fds "$CTL_PID")" = "$at_rest" ]; }
wait_for 5 rests ||
	fail "$(fds "$CTL_PID") descriptors, at rest $at_rest"

# What is no key: one line each, and nothing is made.
: >"$T/empty"
head -c 4098 /dev/zero >"$T/large"
keyed() { tap-ctl create -a "qcow2:$T/a.img" "$@"; }
refuse 22 keyed --key-file "$T/empty"
[[ $ERR == *"no key in $T/empty: it is empty" ]] || fail "$ERR"
refuse 7 keyed --key-file "$T/large"
[[ $ERR == *"no key in $T/large: a key has at most 4096 bytes" ]] || fail "$ERR"
refuse 2 keyed --key-file "$T/nothing"
[[ $ERR == *"no key in $T/nothing: No such file or directory" ]] || fail "$ERR"
refuse 22 keyed --key-fd 99
refuse 22 keyed --key-fd x
# shellcheck disable=SC2046
refuse 22 keyed $(for _ in $(seq 17); do echo --key-file "$T/key1"; done)
[[ $ERR == *"more than 16 keys"* ]] || fail "$ERR"
[ "$(tap-ctl list)" = '' ] || fail "$(tap-ctl list)"
# shellcheck disable=SC2046
keyed $(for _ in $(seq 16); do echo --key-file "$T/key1"; done) >/dev/null ||
	fail "16 keys"
sixteen() { [ "$(wc -l <"$T/modes/0.keys")" = 16 ]; }
wait_for 5 sixteen || fail "not all of 16 keys arrived"
stop_ctl

requires_no_san "they make nothing of mlock(2), which the rest looks at"

# A real tapdisk, which has no use for them here, has them in locked memory while
# its disk is open or paused.
locked() { awk '/^VmLck/ { print $2 }' "/proc/$PID/status"; }
start_ctl --log-level debug --debug all
create "aio:$T/a.img" --key-file "$T/key1" --key-file "$T/key2"
[ "$(locked)" -gt 0 ] || fail "no key arrived"
kill -USR1 "$PID"
wait_for 5 grep -q 'inflight\|in flight' "$T/ctl.log" || fail "no dump"
nowhere served
tap-ctl pause -m 0 || fail "pause"
[ "$(locked)" -gt 0 ] || fail "a paused disk has lost its keys"
kill_ctl KILL
start_ctl --log-level debug --debug all
tap-ctl unpause -m 0 || fail "unpause by a new daemon"
[ "$(locked)" -gt 0 ] || fail "a new daemon has cost the keys"
tap-ctl pause -m 0
refuse any tap-ctl unpause -m 0 -a "aio:$T/nothing" --key-file "$T/key2"
[ "$(locked)" -gt 0 ] || fail "a failed unpause has cost the keys"
nowhere adopted
tap-ctl close -m 0
[ "$(locked)" = 0 ] || fail "keys stay after a close"
tap-ctl open -m 0 -a "aio:$T/a.img" || fail "open without"
[ "$(locked)" = 0 ] || fail "keys of another life"
refuse any tap-ctl open -m 0 -a "aio:$T/a.img" --key-file "$T/key1"
destroy 0
stop_ctl

refuse 2 tapdisk --foreground -m 0 -a "aio:$T/a.img" --key-file "$T/empty"
tapdisk --foreground -m 0 -a "aio:$T/a.img" --key-file "$T/key1" 2>"$T/err" & PID=$!
own $PID
wait_for 5 [ -S "$RUN/nbd0.sock" ] || fail "$(cat "$T/err")"
wait_for 5 grep -q serving "$T/err" || fail "$(cat "$T/err")"
[ "$(locked)" -gt 0 ] || fail "no key in front"
kill "$PID" && wait "$PID" || fail "tapdisk in front: status $?"
