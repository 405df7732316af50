#!/bin/bash
# TIMEOUT: 120
# An image that cannot be opened yet: what may pass is tried again for some seconds, and
# then told; what does not pass is told at once.  What a daemon had opened, and could not
# write any more, the next one takes.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
. "$(dirname "$0")/../lib/xen.sh"
truncate -s 8M "$T/a.img" "$T/b.img"
start_xenstored
start_xen_ctl
has() { [ "$(xs "$1")" = "$2" ]; }
await_has() { wait_for "$3" has "$1" "$2" || fail "$1 is '$(xs "$1")', not $2: $(xs hotplug-error)"; }

note "a guest is rebooted while its tapdisk is slow to close"
device 1 51712; toolstack "aio:$T/a.img"; front_rings; await_state 4; front 4
slow=$(xs kthread-pid)
kill -STOP "$slow"
remove_nodes; xenstore-rm /local/domain/1
device 2 51712; toolstack "aio:$T/a.img"; front_rings
await_log "xvda of domain 2: tried again"
[ -z "$(xs hotplug-status)" ] || fail "told too early: $(xs hotplug-status) $(xs hotplug-error)"
sleep 1.5
kill -CONT "$slow"
await_state 4 8
[ "$(log_count "cannot create aio:$T/a.img")" = 1 ] || fail "$(grep "cannot create" "$T/ctl.log")"

note "another has it, and keeps it"
device 3 51712; toolstack "aio:$T/a.img"; since=$SECONDS
await_has hotplug-status error 12
[ $((SECONDS - since)) -ge 5 ] || fail "given up after $((SECONDS - since)) s"
[[ $(xs hotplug-error) == *"another program"* ]] || fail "$(xs hotplug-error)"
wish_end; await_state 6; remove_nodes
note "there is none"
device 3 51712; toolstack "aio:$T/none.img"
await_has hotplug-status error 2
truncate -s 8M "$T/none.img"	# a moment too late: the same params once more
xenstore-write "$B/params" "aio:$T/none.img"
await_has hotplug-status connected 2
xenstore-write "$B/hotplug-status" unknown
wish_end; await_state 6; await_disks 1; remove_nodes; rm "$T/none.img"
toolstack "aio:$T/none.img"
await_has hotplug-status error 2
note "other params, at once"
xenstore-write "$B/params" "aio:$T/b.img"
await_has hotplug-status connected 2
wish_end; await_state 6; remove_nodes
device 2 51712; front 6; await_state 6; wish_end; remove_nodes
await_disks 0

note "a daemon is killed when it has opened, and before it could write so"
device 1 51712
for _ in 1 2 3 4 5 6 7 8 9 10; do
	toolstack "aio:$T/a.img"
	until [ -n "$(tapdisk_pids)" ]; do :; done
	kill -STOP "$XS_PID"
	sleep 0.5
	pid=$(tapdisk_pids)
	kill_ctl KILL
	kill -CONT "$XS_PID"
	# All of it, or none was written; and a create that was cut off leaves nothing.
	[ -n "$(xs blktap-minor)" ] || ! grep -q "create aio:$T/a.img: done" "$T/ctl.log" || break
	remove_nodes
	start_xen_ctl
	await_disks 0
	: >"$T/ctl.log"
done
[ -z "$(xs blktap-minor)" ] || fail "never met"
start_xen_ctl
await_has hotplug-status connected 5
has pid "$pid" || fail "another tapdisk: $(xs pid), not $pid"
front_rings; await_state 4; front 4
sleep 7
[ "$(tap-ctl list | grep -c "pid=$pid ")" = 1 ] && disks_are 1 || fail "$(tap-ctl list)"
front 6; await_state 6; wish_end; await_disks 0; remove_nodes
stop_ctl
