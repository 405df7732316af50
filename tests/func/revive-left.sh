#!/bin/bash
# TIMEOUT: 120
# A tapdisk that could not take up yet what a predecessor may have left is replaced also
# if SIGTERM has ended it: else the redo log would go, and what clients were told.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq qemu-img

is() { [ "$(disk_state "$MINOR")" = "$1" ]; }
is_unpausing() { grep -q '^state unpausing' "$RUN/disk$MINOR"; }

mkdir "$T/d"
qemu-img create -q -f qcow2 "$T/d/a.qcow2" 16M
start_ctl
create "qcow2:$T/d/a.qcow2"
tap-io -m "$MINOR" -c 'write -P 5 1M 64k' >"$T/out" || fail "$(cat "$T/out")"
tap-ctl pause -m "$MINOR" || fail "pause"
# Told to go on, it dies, and so does who told it: how far it came nobody knows.
kill -STOP "$PID"
tap-ctl unpause -m "$MINOR" >"$T/unpause" 2>&1 &
own $!
wait_for 15 is_unpausing || fail "it is not told to go on: $(cat "$T/unpause")"
kill_ctl KILL
kill -KILL "$PID"
wait_for 15 gone "$PID" || fail "it does not die"
# The next one finds no image.
mv "$T/d" "$T/away"
start_ctl
wait_for 15 is paused || fail "not opened: it is $(disk_state "$MINOR")"
next=$(pid_of "$MINOR")
kill -TERM "$next"
wait_for 15 gone "$next" || fail "it does not leave"
wait_for 15 taken_over "$MINOR" "$next" paused ||
	fail "not replaced: it is $(disk_state "$MINOR")"
mv "$T/away" "$T/d"
tap-ctl unpause -m "$MINOR" || fail "unpause"
tap-io -m "$MINOR" -c 'read -P 5 1M 64k' >"$T/out" 2>&1 || fail "lost: $(cat "$T/out")"

# One that serves has taken up all, also if the daemon before did not live to hear it.
kill_ctl KILL
sed -i 's/^unclean 0$/unclean 1/' "$RUN/disk$MINOR" && grep -q '^unclean 1$' "$RUN/disk$MINOR" ||
	fail "its memo: $(cat "$RUN/disk$MINOR")"
start_ctl
next=$(pid_of "$MINOR")
is running && kill -TERM "$next" || fail "not adopted: it is $(disk_state "$MINOR")"
wait_for 15 is dead || fail "it left in order, and is $(disk_state "$MINOR")"
destroy "$MINOR"

# What a journal of another version says is not that.
create "qcow2:$T/d/a.qcow2"
printf 'JRNL\377\0\0\0\1\0\0\0' | dd of="$RUN/journal$MINOR" conv=notrunc 2>/dev/null
kill -KILL "$PID"
wait_for 15 taken_over "$MINOR" "$PID" || fail "not replaced: it is $(disk_state "$MINOR")"
destroy "$MINOR"
stop_ctl
