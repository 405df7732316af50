#!/bin/bash
# TIMEOUT: 240
# What a tapdisk was connected with is what its successor is: without a xenstored,
# and whatever the guest has written since.  What is known of it ends with the
# connection, and with the daemon.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
. "$(dirname "$0")/../lib/xen.sh"
truncate -s 8M "$T/a.img" "$T/b.img" "$T/c.img" "$T/d.img"
start_xenstored
start_xen_ctl
calls() { log_count "hostxen: connect $DOM/$DEV "; }
calls_are() { [ "$(calls)" = "$1" ]; }
last_call() { grep "hostxen: connect $DOM/$DEV " "$T/ctl.log" | tail -n 1; }
# called N TEXT: it was connected N times, the last one so.
called()
{
	wait_for 10 calls_are "$1" || fail "$(calls) connects, not $1: $(tap-ctl list)"
	last_call | grep -q -- "$2" || fail "not $2: $(last_call)"
}
# kill_one MINOR: its tapdisk has served for a second, and another takes its place.
kill_one()
{
	local old
	sleep 1.1
	old=$(pid_of "$1")
	[ "$old" -gt 0 ] || fail "disk $1 has no tapdisk: $(tap-ctl list)"
	kill -KILL "$old"
	wait_for 10 taken_over "$1" "$old" || fail "no successor of $old: $(tap-ctl list)"
}
# The first one has been let go before, when its guest began anew.
let_go() { logged "disconnect 1/51728" && [ "$(log_count "disconnect 1/51712")" = 2 ]; }
names_are() { [ "$(xs kthread-pid)" = "$1" ] && [ "$(xs pid)" = "$1" ]; }

note "a guest that writes other rings, or nonsense, after it was connected"
device 1 51712; toolstack "aio:$T/a.img"
front 3 ring-ref 8 event-channel 9 protocol x86_64-abi feature-persistent 1
await_state 4; front 4
called 1 "abi=3 flags=1 .*port=9 ref=8 last=9,8"
front 4 ring-ref 666 event-channel 11 protocol x86_32-abi feature-persistent 0
kill_one 0
called 2 "abi=3 flags=5 .*port=9 ref=8 last=9,8"
wait_for 5 names_are "$(pid_of 0)" || fail "named: $(xs pid), not $(pid_of 0)"
front 4 ring-ref nonsense multi-queue-num-queues 99
kill_one 0
called 3 "abi=3 flags=5 .*port=9 ref=8 last=9,8"
state_is 4 || fail "state $(xs state)"
front 4 ring-ref 8 event-channel 9 protocol x86_64-abi multi-queue-num-queues 1

note "one that is connected anew is so with what it writes then"
front 6; await_state 6; front 1; await_state 2
front 3 ring-ref 18 event-channel 19; await_state 4; front 4
called 4 "flags=0 .*port=19 ref=18"
kill_one 0
called 5 "flags=4 .*port=19 ref=18"

note "a daemon that has taken it over reads"
kill_ctl KILL
front 4 ring-ref 28
start_xen_ctl
await_log "xvda of domain 1: taken over"
kill_one 0
called 6 "flags=4 .*port=19 ref=28"
front 4 ring-ref 38
kill_one 0
called 7 "flags=4 .*port=19 ref=28"
wait_for 5 names_are "$(pid_of 0)" || fail "named: $(xs pid), not $(pid_of 0)"

note "without xenstored: one as above; a script's, read-only, with two queues; one that"
note "waits; one of whose rings nothing is known"
one=$B
device 1 51728 vbd3
toolstack "aio:$T/b.img" r @script /etc/xen/scripts/block-tap; await_state 2
script_add
script=$MINOR two=$B
front 3 multi-queue-num-queues 2 ring-page-order 1 queue-0/ring-ref0 1 \
	queue-0/ring-ref1 2 queue-0/event-channel 3 queue-1/ring-ref0 4 \
	queue-1/ring-ref1 5 queue-1/event-channel 6
await_state 4; front 4
queues="queues=2 order=1 .*port=3 ref=1 last=6,5"
called 1 "$queues"
device 1 51744; toolstack "aio:$T/c.img"; await_state 2
wait_for 5 xs blktap-minor >/dev/null || fail "not opened"
waits=$(xs blktap-minor)
device 1 51760; toolstack "aio:$T/d.img"
front 3 ring-ref 8 event-channel 778; await_state 4; front 4
unknown=$(xs blktap-minor)
xenstore-ls -f / | sed -n 's/^\(\/local.*\) = "\(.*\)"$/\1 \2/p' >"$T/dump"
# It dies while the daemon waits for its answer: the first successor is to be named.
kill -STOP "$XS_PID"
device 1 51712
kill_one 0; called 8 "flags=4 .*port=19 ref=28"
kill_one 0
stop_xenstored
called 9 "flags=4 .*port=19 ref=28"
await_log "the connection has ended"
for i in 2 3 4; do
	device 1 51728; kill_one "$script"; called $i "$queues"
	last_call | grep -q "flags=6" || fail "$(last_call)"
done
device 1 51712; kill_one 0; called 10 "flags=4 .*port=19 ref=28"
device 1 51744; kill_one "$waits"
device 1 51760; kill_one "$unknown"
await_log "cannot serve it: nothing is known of its rings"
sleep 0.5
called 1 "flags=0"
device 1 51744; calls_are 0 || fail "a guest that waits: $(last_call)"

note "another xenstored, with what there was: names and states are put right"
kill -STOP "$CTL_PID"	# it sees all of it, or none
start_xenstored
while read -r k v; do xenstore-write "$k" "${v:-}"; done <"$T/dump"
kill -CONT "$CTL_PID"
for d in "$one 0" "$two $script"; do
	B=${d% *}
	wait_for 10 names_are "$(pid_of "${d#* }")" || fail "$B: named: $(xs pid), not $(pid_of "${d#* }")"
	state_is 4 || fail "$B: state $(xs state)"
done
[ "$(xs physical-device-path)" = "/run/blktap-control/nbd$(xs pid).$script" ] || fail "path"
device 1 51760; await_state 6
device 1 51712; called 10 ""
device 1 51728; called 4 ""
device 1 51744; front_rings; await_state 4; called 1 "flags=1"

note "yet another, with nothing: they have ended"
stop_xenstored
await_disks 4
device 1 51712; kill_one 0; called 11 "flags=4 .*port=19 ref=28"
start_xenstored
wait_for 10 let_go || fail "still served: $(tap-ctl list)"
wait_for 20 disks_are 0 || fail "disks: $(tap-ctl list)"
stop_ctl
