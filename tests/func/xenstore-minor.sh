#!/bin/bash
# TIMEOUT: 120
# A guest's disk is dead, and taken away by hand; another's gets its minor.  The first
# guest has nothing to do with that one: not its name, nor its end.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
. "$(dirname "$0")/../lib/xen.sh"
truncate -s 8M "$T/a.img" "$T/b.img"
start_xenstored
start_xen_ctl --no-restart

dead_disk() # of domain 1, which is connected; OLD is its tapdisk
{
	device 1 51712; toolstack "aio:$T/a.img"; await_state 2
	front_rings; await_state 4; front 4
	MINOR=$(tap-ctl list | sed -n 's/.*minor=\([0-9]*\).*a\.img.*/\1/p')
	OLD=$(disk_json "$MINOR" | jq .pid)
	[ "$(xs kthread-pid)" = "$OLD" ] || fail "kthread-pid $(xs kthread-pid), not $OLD"
	kill -KILL "$OLD"
	is_dead() { [ "$(disk_state "$MINOR")" = dead ]; }
	wait_for 5 is_dead || fail "$(tap-ctl list)"
}
neighbour() # gets that minor
{
	device 2 51712; toolstack "aio:$T/b.img"; await_state 2
	front_rings; await_state 4; front 4
	[ "$(disk_json "$MINOR" | jq -r .path)" = "$T/b.img" ] || fail "not minor $MINOR: $(tap-ctl list)"
	PID=$(disk_json "$MINOR" | jq .pid)
}
unharmed()
{
	[ "$(disk_json "$MINOR" | jq .pid)" = "$PID" ] && [ "$(disk_state "$MINOR")" = running ] ||
		fail "$1: the other's disk: $(tap-ctl list)"
	state_is 4 || fail "$1: the other's state: $(xs state)"
}

for how in destroy detach; do
	dead_disk
	if [ $how = destroy ]; then
		tap-ctl destroy -m "$MINOR" || fail "destroy"
	else
		tap-ctl detach -p "$OLD" -m "$MINOR" && tap-ctl free -m "$MINOR" || fail "detach"
	fi
	neighbour
	# Whatever makes the first one look again.
	device 1 51712; front 4; xenstore-write "$F/x" y; tap-ctl pause -m "$MINOR" && tap-ctl unpause -m "$MINOR" || fail "pause"
	device 2 51712; unharmed "$how, it looks again"
	device 1 51712
	[ "$(xs kthread-pid)" = "$OLD" ] || fail "$how: named as served by $(xs kthread-pid), the other's"
	front 5; await_state 5; front 6; await_state 6
	wish_end; remove_nodes; sleep 1
	device 2 51712; unharmed "$how, its guest has left"
	wish_end; front 5; await_state 5; front 6; await_state 6; remove_nodes
	await_disks 0
done
stop_ctl

note "the daemon was shut down and begins again; another's disk gets the minor first"
truncate -s 4M "$T/other.img"
xenstore-write /local/domain/7/name guest7 /local/domain/0/name Domain-0
for how in connect detach; do
	start_xen_ctl
	device 7 51712
	tap-ctl xen-attach 7 xvda "tap:aio:$T/a.img" >/dev/null || fail "xen-attach"
	await_state 2; front_rings; await_state 4; front 4
	stop_ctl
	xenstore-write "$B/blktap-minor" 0	# as a daemon leaves it that was killed
	start_xen_ctl
	sleep 1
	create "aio:$T/other.img"
	[ "$MINOR" = 0 ] || fail "not minor 0: $(tap-ctl list)"
	if [ $how = connect ]; then
		front 6; front 1; await_state 2; front_rings; await_state 4; front 4
		[ "$(xs sectors)" = 16384 ] || fail "another's disk: $(tap-ctl xen-list)"
	fi
	front 6
	tap-ctl xen-detach 7 xvda || fail "xen-detach: $?"
	[ "$(disk_state 0)" = running ] && [ "$(pid_of 0)" = "$PID" ] || fail "$how: the other's disk: $(tap-ctl list)"
	await_disks 1
	stop_ctl
done

note "the same image, and no image: the minor is another device's"
start_xen_ctl
for what in "aio:$T/a.img" ""; do
	device 7 51712
	toolstack "$what" r; xenstore-write "$B/device-type" cdrom
	front_rings; await_state 4; front 4
	minor=$(xs blktap-minor)
	kill_ctl KILL
	wish_end; front 6; remove_nodes		# while nobody looks
	device 8 51712
	toolstack "$what" r
	xenstore-write "$B/device-type" cdrom "$B/blktap-minor" "$minor"
	front_rings
	start_xen_ctl
	await_state 4
	[ "$(xs blktap-minor)" != "$minor" ] || fail "'$what': it has the disk of another: $(tap-ctl list)"
	await_disks 1		# nobody refers to that
	front 6; wish_end; await_state 6; remove_nodes; await_gone "$B"
	await_disks 0
done
stop_ctl

note "a minor that is only allocated; a closed device forgets one that is no more"
start_xen_ctl
tap-ctl allocate >"$T/out" || fail "allocate"
kill_ctl KILL
device 7 51712
toolstack "aio:$T/a.img"
xenstore-write "$B/blktap-minor" 0
front_rings
start_xen_ctl
await_state 4; front 4
minor=$(xs blktap-minor)
[ "$minor" = 1 ] || fail "it has minor $minor"
front 6; await_state 6
forgotten() { [[ $(xs blktap-minor) =~ ^\ *$ ]]; }
! forgotten || fail "forgotten while it has its disk: $(tap-ctl list)"
tap-ctl destroy -m "$minor" || fail "destroy"
wait_for 5 forgotten || fail "blktap-minor $(xs blktap-minor)"
wish_end; await_state 6; remove_nodes; await_gone "$B"
[ "$(tap-ctl list)" = "minor=0" ] || fail "$(tap-ctl list)"
stop_ctl

note "a dead disk's minor is attached to another tapdisk, with another image"
for what in cdrom disk; do
	start_xen_ctl --no-restart
	device 7 51712
	toolstack "aio:$T/a.img" r; xenstore-write "$B/device-type" $what
	front_rings; await_state 4; front 4
	minor=$(xs blktap-minor) pid=$(xs kthread-pid)
	kill -KILL "$pid"
	is_dead() { [ "$(disk_state "$minor")" = dead ]; }
	wait_for 5 is_dead || fail "$(tap-ctl list)"
	tap-ctl detach -p "$pid" -m "$minor" || fail "detach"
	PID=$(tap-ctl spawn) && tap-ctl attach -p "$PID" -m "$minor" &&
		tap-ctl open -p "$PID" -m "$minor" -a "aio:$T/other.img" || fail "open"
	kill_ctl KILL
	start_xen_ctl --no-restart
	moved() { [ "$(xs kthread-pid)" != "$pid" ]; }
	wait_for 15 moved || fail "$what: not opened anew: $(tap-ctl list; tap-ctl xen-list)"
	front 6; await_state 6; wish_end; await_disks 1; remove_nodes; await_gone "$B"
	sleep 6			# as long as what nobody refers to is kept
	[ "$(pid_of "$minor")" = "$PID" ] && [ "$(disk_state "$minor")" = running ] &&
		[ "$(disk_json "$minor" | jq -r .path)" = "$T/other.img" ] ||
		fail "$what: the other's disk: $(tap-ctl list)"
	destroy "$minor"
	stop_ctl
done
