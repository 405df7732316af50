#!/bin/bash
# TIMEOUT: 300
# A tapdisk that dies under a guest is replaced, and its guests' rings are taken up
# by the next: the nodes that name the old one are rewritten, the states and the
# frontend's half are not touched.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
. "$(dirname "$0")/../lib/xen.sh"
truncate -s 8M "$T/a.img" "$T/b.img"
start_xenstored
start_xen_ctl
xenstore-write /local/domain/1/device/vbd "" /local/domain/0/backend/tap/1 "" \
	/local/domain/0/backend/vbd3/1 ""
N=$(nodes)
new_pid() { [ -n "$(xs kthread-pid)" ] && [ "$(xs kthread-pid)" != "$old" ]; }
# kill_tapdisk: and the device that is looked at is served by another one.
kill_tapdisk()
{
	old=$(xs kthread-pid)
	kill -KILL "$old" || fail "there is no tapdisk $old"
	wait_for 10 new_pid || fail "kthread-pid stays $old: $(tap-ctl list)"
	state_is 4 || fail "state $(xs state)"
}
# The frontend's half and the states, as they must stay.
shape() { xenstore-ls -f / | grep -vE '/(kthread-pid|pid|physical-device-path) = '; }

note "opened by us, and by a script"
device 1 51712; toolstack "aio:$T/a.img"; front_rings; await_state 4; front 4
own=$B
device 1 51728 vbd3
toolstack "aio:$T/b.img" w @script /etc/xen/scripts/block-tap; await_state 2
script_add; front_rings; await_state 4; front 4
before=$(shape) first=$PID
for i in 1 2 3; do
	kill_tapdisk
	[ "$(log_count "connect 1/51728 .* flags=5 ")" = $i ] || fail "$(grep "connect 1/" "$T/ctl.log")"
	[ "$(xs pid)" = "$(xs kthread-pid)" ] || fail "pid"
	[ "$(xs physical-device-path)" = "/run/blktap-control/nbd$(xs pid).$MINOR" ] || fail "path"
	[ -e "/dev/shm/td3-$(xs pid)/vbd-1-51728" ] || fail "xentop's file"
	[ ! -e "/dev/shm/td3-$old" ] || fail "the old one stays"
	[ "$(shape)" = "$before" ] || fail "changed: $(diff <(echo "$before") <(shape))"
done
[ "$(log_count "connect 1/51712")" = 1 ] || fail "the other one was touched"
state_of_own=$B; B=$own; kill_tapdisk; B=$state_of_own
[ "$(shape)" = "$before" ] || fail "changed: $(diff <(echo "$before") <(shape))"

note "the script knows the first pid alone"
front 6; await_state 6
PID=$first script_remove
remove_nodes
device 1 51712; front 6; await_state 6; wish_end; await_disks 0; remove_nodes

note "before the guest has come"
device 1 51712; toolstack "aio:$T/a.img"; wait_for 5 xs blktap-minor >/dev/null
old=$(xs pid)
kill -KILL "$old"
wait_for 10 logged "tapdisk $old .*killed" || fail "unnoticed"
renamed() { [ "$(xs pid)" != "$old" ] && [ "$(xs pid)" = "$(pid_of "$1")" ]; }
wait_for 10 renamed "$(xs blktap-minor)" || fail "pid $(xs pid): $(tap-ctl list)"
[ -z "$(xs kthread-pid)" ] || fail "served by $(xs kthread-pid)"
front_rings; await_state 4 15; front 4
logged "connect 1/51712 .* flags=1 " || fail "asked"
device 1 51728 vbd3
toolstack "aio:$T/b.img" w @script /etc/xen/scripts/block-tap; await_state 2
script_add
old=$PID
kill -KILL "$old"
wait_for 10 renamed "$MINOR" || fail "pid $(xs pid): $(tap-ctl list)"
[ "$(xs physical-device-path)" = "/run/blktap-control/nbd$(xs pid).$MINOR" ] || fail "path"
front_rings; await_state 4; front 4
[ "$(xs kthread-pid)" = "$(xs pid)" ] || fail "kthread-pid"
front 6; await_state 6
script_remove; remove_nodes
device 1 51712

note "daemon and tapdisk both: the next daemon finds neither"
old=$(xs kthread-pid)
kill_ctl KILL
kill -KILL "$old"
start_xen_ctl
wait_for 15 new_pid || fail "not taken up: $(tap-ctl list; tap-ctl xen-list)"
state_is 4 || fail "state $(xs state)"

note "rings of which nothing is known: the guest is told, and may begin anew"
device 1 51744; toolstack "aio:$T/b.img"
front 3 ring-ref 8 event-channel 778; await_state 4; front 4
kill -KILL "$(xs kthread-pid)"
await_state 6 15
front 6; front 1; await_state 2; front_rings; await_state 4
front 6; await_state 6; wish_end; await_disks 1; remove_nodes
device 1 51712

note "a host that is short of memory: tried again, for a while"
device 1 51744; toolstack "aio:$T/b.img"
front 3 ring-ref 8 event-channel 779; await_state 4; front 4
old=$(xs kthread-pid)
kill -KILL "$old"
wait_for 20 new_pid || fail "not taken up: $(tap-ctl list; tap-ctl xen-list)"
state_is 4 || fail "state $(xs state)"
logged "xvdc of domain 1: its rings are not taken up: out of memory; trying again" ||
	fail "nothing is said of it"
front 6; await_state 6; wish_end; await_disks 1; remove_nodes
await_gone "$B"
toolstack "aio:$T/b.img"
front 3 ring-ref 8 event-channel 780; await_state 4; front 4
kill -KILL "$(xs kthread-pid)"
sleep 5
state_is 4 || fail "given up at once: state $(xs state)"
await_state 6 60
front 6; wish_end; await_disks 1; remove_nodes
device 1 51712

note "under a guest that waits for the last user of its disk"
taken_up() # NOTE: by a tapdisk that lives
{
	wait_for 15 new_pid || fail "$1: not taken up: $(tap-ctl list; tap-ctl xen-list)"
	state_is 5 || fail "$1: state $(xs state)"
}
front 5; await_state 5
kill_ctl KILL; start_xen_ctl
old=$(xs kthread-pid)
kill -KILL "$old"; taken_up "by the next daemon"
old=$(xs kthread-pid)
kill_ctl KILL; kill -KILL "$old"; start_xen_ctl
taken_up "after both have died"

note "under a guest that leaves"
old=$(xs kthread-pid)
kill -KILL "$old"; front 5; await_state 5; front 6; await_state 6
wish_end; await_disks 0; remove_nodes
nodes_are() { [ "$(nodes)" = "$N" ]; }
wait_for 5 nodes_are || fail "nodes: $(xenstore-ls -f)"
stop_ctl

note "a tapdisk ends, or stands still, before the guest is told that it is connected"
cat >"$T/tapdisk" <<END
#!/bin/sh
[ ! -e "$T/slow" ] || sleep 1.5
exec "$BUILD/hostxen/tapdisk" "\$@"
END
chmod +x "$T/tapdisk"
start_ctl --tapdisk "$T/tapdisk"
device 1 51712; toolstack "aio:$T/a.img"; await_state 2
wait_for 15 xs blktap-minor >/dev/null
old=$(pid_of "$(xs blktap-minor)")
: >"$T/slow"
kill -STOP "$old"
front_rings; sleep 0.3		# it is asked,
kill -STOP "$XS_PID"
kill -CONT "$old"; sleep 0.3	# answers, and the nodes are read again,
kill -KILL "$old"; sleep 0.3
kill -CONT "$XS_PID"		# which takes until it is known to be dead
await_state 4 20; front 4
[ "$(xs kthread-pid)" != "$old" ] || wait_for 15 new_pid || fail "served by $(xs kthread-pid)"
rm "$T/slow"
front 6; await_state 6
old=$(pid_of "$(xs blktap-minor)")
kill -STOP "$old"
front 1; await_state 2; front_rings
wait_for 20 logged "its tapdisk does not answer; waiting" || fail "$(xs state)"
kill -CONT "$old"
await_state 4 15; front 4
front 6; await_state 6; wish_end; await_disks 0; remove_nodes
stop_ctl
