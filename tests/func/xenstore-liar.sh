#!/bin/bash
# TIMEOUT: 180
# A tapdisk that serves a guest and that somebody has taken over: the daemon lives on
# whatever it says, and the guest is not told that its pages are its own while that one
# has them.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
. "$(dirname "$0")/../lib/xen.sh"
mkdir "$T/modes" "$T/fake"
truncate -s 1M "$T/a.img"
cp "$BUILD/func/faketap" "$T/fake/tapdisk" || fail "faketap is not built"
start_xenstored
start_fake() { start_ctl --tapdisk "$T/fake/tapdisk" --tapdisk-arg --modes --tapdisk-arg "$T/modes"; }
lives() { kill -0 "$CTL_PID" 2>/dev/null || fail "the daemon has ended: $(tail -n 3 "$T/ctl.log")"; }
device 1 51712

note "it says that it is another disk, to the next daemon"
echo other:12345 >"$T/modes/0"
start_fake
toolstack "aio:$T/a.img"; front_rings; await_state 4; front 4
liar=$(xs kthread-pid)
kill_ctl KILL
start_fake
moved() { lives; [ "$(xs kthread-pid)" != "$liar" ]; }
wait_for 15 moved || fail "not served anew: $(tap-ctl list)"
[ "$(xs blktap-minor)" != 0 ] || fail "it has the minor of one that lives"
front 6; await_state 6; wish_end; remove_nodes; await_gone "$B"
kill -KILL "$liar"
wait_for 10 over "$liar" || fail "$liar stays"
stop_ctl
rm "$T/modes/0"

note "it does not read any more"
start_fake
toolstack "aio:$T/a.img"; front_rings; await_state 4; front 4
kill_ctl KILL		# an adopted one's pipe has no other reader
start_fake
wait_for 10 logged "taken over as it is" || fail "$(tap-ctl xen-list)"
deaf=$(xs kthread-pid)
kill -USR1 "$deaf"; sleep 0.3
front 5; await_state 5; front 6
await_state 6 15
over "$deaf" || fail "told 6 while tapdisk $deaf has its rings: $(tap-ctl list)"
front 1; await_state 2; front_rings; await_state 4 15; front 4
front 6; await_state 6; wish_end; await_disks 0; remove_nodes
stop_ctl
