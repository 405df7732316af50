#!/bin/bash
# TIMEOUT: 120
# What could not be written of a device's disk is told when it can be: that it is open,
# that it cannot be opened, that it is ours no more.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires_no_san "what is loaded into the daemon has none"
. "$(dirname "$0")/../lib/xen.sh"
truncate -s 8M "$T/a.img"
start_xenstored
export XENSTORE_FULL="$T/full"
LD_PRELOAD="$BUILD/hostxen/full.so" start_xen_ctl
xenstore-write /local/domain/1/device/vbd "" /local/domain/0/backend/tap ""
# full KEY: no such key is taken, until `room'.
refusals() { log_count "cannot write its nodes: No space left"; }
full()
{
	before=$(refusals)
	echo "$1" >"$T/full.new"
	mv "$T/full.new" "$T/full"
}
room() { rm "$T/full"; }
# It is tried again and again.
refused() { [ "$(refusals)" -ge $((before + 3)) ]; }
await_refused() { wait_for 10 refused || fail "tried only $(($(refusals) - before)) times"; }
has() { [ "$(xs "$1")" = "$2" ]; }

note "its disk is open"
full hotplug-status
device 1 51712; toolstack "aio:$T/a.img"
await_refused
[ -z "$(xs blktap-minor)" ] || fail "half is written: $(xenstore-ls "$B")"
room
wait_for 10 has hotplug-status connected || fail "never told: $(xenstore-ls "$B")"
[ "$(log_count "create aio:$T/a.img: done")" = 1 ] || fail "$(grep create "$T/ctl.log")"
await_disks 1
front_rings; await_state 4; front 4

note "its disk is gone"
front 6; await_state 6
full blktap-minor
xenstore-write "$B/online" 0
await_refused
await_disks 0
room
wait_for 10 has blktap-minor " " || fail "named still: $(xenstore-ls "$B")"
remove_nodes; await_gone "$B"

note "its disk cannot be opened"
full hotplug-error
device 1 51728; toolstack "aio:$T/none.img"
await_refused
[ -z "$(xs hotplug-status)" ] || fail "half is written: $(xenstore-ls "$B")"
room
wait_for 10 has hotplug-status error || fail "never told: $(xenstore-ls "$B")"
[[ $(xs hotplug-error) == *"No such file"* ]] || fail "$(xs hotplug-error)"
wish_end; await_state 6; remove_nodes; await_gone "$B"
await_disks 0

note "its nodes, which make room, go all the same"
xenstore-write /local/domain/0/name Domain-0
full no-such-key
device 1 51744
tap-ctl xen-attach 1 xvdc "tap:aio:$T/a.img" >/dev/null || fail "xen-attach"
await_state 2
full blktap-minor
front 6
timeout 60 tap-ctl xen-detach 1 xvdc || fail "xen-detach: status $?"
[ "$(refusals)" -gt "$before" ] || fail "nothing was refused"
await_gone "$B"
await_disks 0
stop_ctl
