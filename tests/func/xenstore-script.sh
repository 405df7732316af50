#!/bin/bash
# TIMEOUT: 120
# What a hotplug script passes on and what it does not: of block-tap the node has
# the last word on image and mode; of block-blktap the script; of others nothing is
# touched.  backend/vbd is served when asked, and of it our scripts' devices alone.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
. "$(dirname "$0")/../lib/xen.sh"
for f in a 'b b:c,d' x; do truncate -s 8M "$T/$f.img"; done
qemu=$(command -v qemu-img) && $qemu create -q -f qcow2 "$T/q q.img" 8M
start_xenstored
start_xen_ctl --xen-vbd
path_of() { disk_json "$1" | jq -r '"\(.type):\(.path) \(.read_only)"'; }
S=(@script /etc/xen/scripts/block-tap)
end() { front 6; wish_end; await_state 6; remove_nodes; }

note "block-tap: a path that it takes apart, and a mode that it does not pass on"
device 1 51712 vbd3
toolstack "aio:$T/b b:c,d.img" r "${S[@]}"; await_state 2
script_add "aio:$T/x.img"
[ "$(path_of "$MINOR")" = "aio:$T/b b:c,d.img true" ] || fail "$(path_of "$MINOR")"
front_rings; await_state 4; end; script_remove
if [ -n "$qemu" ]; then
	note "block-tap: libxl says aio: before every target"
	device 1 51728 vbd3
	toolstack "aio:qcow2:$T/q q.img" w "${S[@]}"; await_state 2
	script_add "aio:qcow2:$T/q"
	[ "$(path_of "$MINOR")" = "qcow2:$T/q q.img false" ] || fail "$(path_of "$MINOR")"
	front_rings; await_state 4
	[ "$(xs sectors)" = 16384 ] || fail "sectors"
	end; script_remove
fi

note "block-blktap: its words count, the mode all the same"
device 1 51744 vbd3
toolstack "direct=off,$T/nonsense" r @script /etc/xen/scripts/block-blktap; await_state 2
script_add "aio:$T/a.img"
[ "$(path_of "$MINOR")" = "aio:$T/a.img true" ] || fail "$(path_of "$MINOR")"
front_rings; await_state 4; end; script_remove

note "by hand, or a node that is not there: as ever"
XENBUS_PATH=backend/vbd3/9/9 tap-ctl create -a "aio:$T/a.img" >/dev/null || fail "create"
tap-ctl close -m 0 && XENBUS_PATH=backend/vbd3/9/9 tap-ctl open -m 0 -a "aio:$T/x.img" || fail "open"
[ "$(path_of 0)" = "aio:$T/x.img false" ] || fail "$(path_of 0)"
XENBUS_PATH=backend/vbd3/9/9 refuse 22 tap-ctl open -m 0 -a "nonsense"
destroy 0

note "backend/vbd: a script of ours that only says connected"
device 1 51760 vbd
toolstack "tap:aio:$T/a.img" w @script /etc/xen/scripts/block-blktap; await_state 2
xenstore-write "$B/hotplug-status" connected
front_rings; await_state 4; await_disks 1
front 6; await_state 6; wish_end; await_disks 0; remove_nodes
note "backend/vbd: another's is let alone"
device 1 51776 vbd
toolstack "/dev/loop0" w @script /etc/xen/scripts/block
front_rings; sleep 0.5; state_is 1 || fail "state $(xs state)"
remove_nodes
stop_ctl

note "backend/vbd: not unless asked"
start_xen_ctl
toolstack "aio:$T/a.img" w @script /etc/xen/scripts/block-blktap
sleep 0.5; state_is 1 || fail "state $(xs state)"
stop_ctl
note "--xenstore off"
start_xen_ctl --xenstore off
device 1 51792 tap
toolstack "aio:$T/a.img"; sleep 0.5; state_is 1 || fail "state $(xs state)"
refuse any tap-ctl xen-list
stop_ctl
