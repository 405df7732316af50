#!/bin/bash
# TIMEOUT: 120
# A guest's disk from xen-attach to xen-detach on a real xenstored: what is
# written when, in which order, and that nothing is left of it.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
. "$(dirname "$0")/../lib/xen.sh"
truncate -s 8M "$T/a.img" "$T/b b:c.img"
start_xenstored
start_xen_ctl
xenstore-write /local/domain/7/name guest7 /local/domain/0/name Domain-0 \
	/local/domain/7/device/vbd "" /local/domain/0/backend/tap ""
wait_for 5 logged "xenstore: connected" || fail "not connected"
before=$(nodes)
device 7 51712
# asks PID: a tap-ctl that has sent its question: it sleeps, and has a socket.
asks() { find "/proc/$1/fd" -lname 'socket:*' 2>/dev/null | grep -q . && asleep "$1"; }
await_asks() { wait_for 10 asks "$1" || fail "it asks nothing: $2"; }

# --- what cannot be leaves nothing, and says why.
refuse 2 tap-ctl xen-attach nobody xvda "tap:aio:$T/a.img"
[[ $ERR == *"no such guest"* ]] || fail "$ERR"
refuse 2 tap-ctl xen-attach 7 xvda "tap:aio:$T/none.img"
[[ $ERR == *"No such file"* ]] || fail "$ERR"
refuse 22 tap-ctl xen-attach 7 pipe "tap:aio:$T/a.img"
refuse 22 tap-ctl xen-attach 7 xvda "nonsense"
refuse 22 tap-ctl xen-attach 7 xvda
refuse 2 tap-ctl xen-detach 7 xvda
[ "$(nodes)" = "$before" ] || fail "nodes: $(xenstore-ls -f /)"
await_disks 0

# --- by name, writable; the backend waits for the guest in state 2.
tap-ctl xen-attach guest7 xvda "tap:aio:$T/a.img" >/dev/null || fail "xen-attach"
await_state 2
[ -S "$(xs physical-device-path)" ] && kill -0 "$(xs pid)" || fail "names: $(xenstore-ls "$B")"
[ "$(xs max-ring-page-order)/$(xs multi-queue-max-queues)" = 4/8 ] || fail "offers"
[ "$(xenstore-ls -p "$F" | head -n 1 | grep -o '(n7,r0)')" ] || fail "$(xenstore-ls -p "$F")"
refuse 17 tap-ctl xen-attach 7 51712 "tap:aio:$T/b b:c.img"
row=$(tap-ctl xen-list --json | jq -c '.[0] | [.guest, .device, .kind, .backend, .frontend, .read_only, .served]')
[ "$row" = '[7,"xvda","tap","waiting","initialising",false,false]' ] || fail "$row"
front_rings
await_state 4
logged "connect 7/51712 queues=1 order=0 abi=3 flags=1 indirect=256 port=9 ref=8" || fail "asked"
[ "$(xs sectors)/$(xs sector-size)/$(xs info)" = 16384/512/0 ] || fail "geometry: $(xenstore-ls "$B")"
for k in feature-flush-cache feature-barrier feature-discard feature-persistent; do
	[ "$(xs $k)" = 1 ] || fail "$k: $(xs $k)"
done
[ "$(xs feature-max-indirect-segments)" = 256 ] || fail "indirect"
pid=$(xs kthread-pid)
[ -f "/dev/shm/td3-$pid/vbd-7-51712" ] || fail "xentop's file"
[ "$(stat -c %s "/dev/shm/td3-$pid/vbd-7-51712")" -ge 104 ] || fail "its size"
await_log "statistics 7/51712"
front 4

# --- resize: the new size, then the state once more.
truncate -s 16M "$T/a.img"
tap-ctl resize -m 0 || fail "resize"
sectors_are() { [ "$(xs sectors)" = "$1" ]; }
wait_for 5 sectors_are 32768 || fail "sectors: $(xs sectors)"
state_is 4 || fail "state $(xs state)"

# --- the guest may go on using it after the wish to end; then it is let go.
tap-ctl xen-detach 7 xvda & detach=$!
wait_for 5 state_is 5 || fail "the wish"
sleep 0.3
logged "disconnect 7/51712" && fail "let go while the guest uses it"
front 5		# when the last user has closed it
sleep 0.3
logged "disconnect 7/51712" && fail "let go while a user in the guest has it open"
front 6
await_log "disconnect 7/51712"
wait $detach || fail "xen-detach: $?"
[ "$(nodes)" = "$before" ] || fail "nodes: $(xenstore-ls -f /)"
await_disks 0
[ ! -e "/dev/shm/td3-$pid" ] || fail "xentop's folder stays"

# --- read-only, awkward path, never connected: nobody but us moves.
tap-ctl xen-attach 7 xvda "aio:$T/b b:c.img" r >/dev/null || fail "xen-attach r"
await_state 2
[ "$(tap-ctl list --json | jq .[0].read_only)" = true ] || fail "opened for writing"
tap-ctl xen-detach 7 xvda || fail "xen-detach: $?"
[ "$(nodes)" = "$before" ] || fail "nodes: $(xenstore-ls -f /)"
await_disks 0

# --- one that the old numbers have no room for is named as it was given.
tap-ctl xen-attach 7 xvdq "aio:$T/a.img" >/dev/null || fail "xen-attach xvdq"
device 7 268439552
await_state 2
[ "$(tap-ctl xen-list --json | jq -r '.[0] | "\(.device) \(.devid)"')" = "xvdq 268439552" ] ||
	fail "$(tap-ctl xen-list)"
tap-ctl xen-detach 7 xvdq || fail "xen-detach: $?"
device 7 51712
[ "$(nodes)" = "$before" ] || fail "nodes: $(xenstore-ls -f /)"
await_disks 0

# --- a drive: read-only whatever was asked, another medium by params, and none.
tap-ctl xen-attach 7 xvdd "tap:cdrom:$T/a.img" >/dev/null || fail "xen-attach cdrom"
device 7 51760
await_state 2; front_rings; await_state 4; front 4
[ "$(xs info)/$(xs device-type)/$(xs removable)/$(xenstore-read "$F/device-type")" = 5/cdrom/1/cdrom ] ||
	fail "no drive: $(xenstore-ls "$B")"
[ "$(tap-ctl list --json | jq .[0].read_only)" = true ] || fail "opened for writing"
truncate -s 24M "$T/c.img"
xenstore-write "$B/params" "tap:cdrom:$T/c.img"
wait_for 5 sectors_are 49152 || fail "its medium has not changed: $(tap-ctl list)"
tap-ctl xen-detach 7 xvdd & detach=$!
wait_for 5 state_is 5 || fail "the wish"
front 5; front 6
wait $detach || fail "xen-detach: $?"
[ "$(nodes)" = "$before" ] || fail "nodes: $(xenstore-ls -f /)"
await_disks 0

# --- what was said of the image below it makes it no other medium.
tap-img create -q -f qcow2 -b "$T/a.img" -F raw "$T/d.qcow2" || fail "create"
media=$(log_count " medium")
tap-ctl xen-attach 7 xvdd "tap:cdrom:qcow2:$T/d.qcow2" --backing "aio:$T/a.img" >/dev/null ||
	fail "xen-attach: $?"
await_state 2; front_rings; await_state 4; front 4
sleep 0.5
[ "$(log_count " medium")" = "$media" ] || fail "$(grep " medium" "$T/ctl.log")"
tap-ctl xen-detach 7 xvdd & detach=$!
wait_for 5 state_is 5 || fail "the wish"
front 6
wait $detach || fail "xen-detach: $?"
await_disks 0
device 7 51712

# --- a wish that comes before the daemon has looked at what there is.
tap-ctl xen-attach 7 xvda "aio:$T/a.img" >/dev/null || fail "xen-attach"
await_state 2
kill_ctl
kill -STOP $XS_PID
start_xen_ctl
connected() { [ "$(log_count "xenstore: connected")" = 2 ]; }
wait_for 5 connected || fail "not connected"
tap-ctl xen-detach 7 xvda & detach=$!
await_asks $detach xen-detach
kill -CONT $XS_PID
wait $detach || fail "xen-detach: $?"
[ "$(nodes)" = "$before" ] || fail "nodes: $(xenstore-ls -f /)"
await_disks 0

# --- shutdown under guests: nothing says that they are served; what begins again then
# is served by the next daemon.
tap-ctl xen-attach 7 xvda "aio:$T/a.img" >/dev/null || fail "xen-attach"
await_state 2; front_rings; await_state 4; front 4
tap-ctl xen-attach 7 xvdb "aio:$T/b b:c.img" >/dev/null || fail "xen-attach"
stop_ctl
state_is 6 || fail "after a shutdown: state $(xs state)"
start_xen_ctl
sleep 0.5
state_is 6 || fail "by the next: state $(xs state)"
front 6; front 1; await_state 2; front_rings; await_state 4; front 4
tap-ctl xen-detach 7 xvdb || fail "xen-detach: $?"
front 6; await_state 6
tap-ctl xen-detach 7 xvda || fail "xen-detach: $?"
[ "$(nodes)" = "$before" ] || fail "nodes: $(xenstore-ls -f /)"
stop_ctl

# --- a guest that is slow to let go, and does so with the next daemon: as promised.
start_xen_ctl
tap-ctl xen-attach 7 xvda "tap:aio:$T/a.img" >/dev/null || fail "xen-attach"
device 7 51712
front_rings; await_state 4; front 4
refuse 110 tap-ctl xen-detach 7 xvda -t 1
kill_ctl TERM
start_xen_ctl
front 5; await_state 5; front 6
await_gone "$B"
await_disks 0
[ "$(nodes)" = "$before" ] || fail "nodes: $(xenstore-ls -f /)"
stop_ctl

# --- a shutdown that comes while the guest is looked for: nothing is opened any more.
start_xen_ctl
await_log "xenstore: connected"
create "delay:ms=12000,op=write|aio:$T/b b:c.img"
tap-io -m "$MINOR" -c 'write 0 4k' >/dev/null 2>&1 & own $!
wait_for 5 in_flight "$MINOR" || fail "it does not write"
kill -STOP $XS_PID
tap-ctl xen-attach 7 xvda "tap:aio:$T/a.img" >/dev/null 2>"$T/late" & attach=$!
await_asks $attach xen-attach
ends=$(log_count "shutdown: closing")
tap-ctl shutdown & shutdown=$!
closing() { [ "$(log_count "shutdown: closing")" -gt "$ends" ]; }
wait_for 5 closing || fail "no shutdown"
kill -CONT $XS_PID
wait $attach && fail "attached by a daemon that shuts down"
grep -q "shutting down" "$T/late" || fail "$(cat "$T/late")"
wait $shutdown || fail "tap-ctl shutdown: $?"
wait_for 10 gone "$CTL_PID" || fail "blktapctrl still runs"
CTL_PID=
[ -z "$(tapdisk_pids)" ] || fail "tapdisks left: $(tapdisk_pids)"
[ "$(nodes)" = "$before" ] || fail "nodes: $(xenstore-ls -f /)"
