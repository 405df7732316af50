#!/bin/bash
# TIMEOUT: 240
# backend/vbd3 on a real xenstored: the script, the frontend and the toolstack come
# in every order, twice, or all at once; the device ends in every state; and each
# time nothing of it is left.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
. "$(dirname "$0")/../lib/xen.sh"
truncate -s 8M "$T/a.img" "$T/c.img"
img="aio:$T/a.img"
start_xenstored
start_xen_ctl
S=(@script /etc/xen/scripts/block-tap)
vbd() { toolstack "$img" "${1:-w}" "${S[@]}"; }
xenstore-write /local/domain/1/device/vbd "" /local/domain/0/backend/vbd3/1 "" \
	/local/domain/0/backend/tap/1 ""
end()		# as libxl ends one whose frontend is gone or was never there
{
	await_state 6
	script_remove
	remove_nodes
}
clean() { wait_for 5 nodes_are || fail "$1: nodes $(nodes), not $N: $(xenstore-ls -f)"; await_disks 0; }
nodes_are() { [ "$(nodes)" = "$N" ]; }
dev=51712
next() { note "$1"; dev=$((dev + 16)); device 1 $dev vbd3; N=$(nodes); }

next "create: the script first, then the guest boots; it shuts down"
vbd; await_state 2; script_add; state_is 2 || fail "state $(xs state) too early"
front_rings; await_state 4; front 4
[ "$(xs kthread-pid)" = "$PID" ] || fail "kthread-pid"
front 5; await_state 5; front 6; end; clean create

next "block-attach: the frontend first; block-detach"
vbd; await_state 2; front_rings; sleep 0.2; state_is 2 || fail "too early"
script_add; await_state 4; front 4
wish_end; sleep 0.3; logged "disconnect 1/$dev" && fail "let go too early"
front 6; end; clean attach

next "all at once: the script and the frontend in one breath"
vbd; front_rings; script_add; await_state 4; front 4; front 4; front 4
[ "$(log_count "connect 1/$dev ")" = 1 ] || fail "connected more than once"
front 6; end; clean "at once"

next "the backend sees 1 and then 3, with the script in between only"
vbd; script_add; front_rings; await_state 4
xenstore-rm "$F"; end; clean "vanished"

next "xl destroy of a connected guest: the frontend vanishes first"
vbd; await_state 2; script_add; front_rings; await_state 4; front 4
xenstore-rm "$F"; await_state 6; logged "disconnect 1/$dev" || fail "not let go"
end; clean destroy

next "never connected: nobody but us moves"
vbd; await_state 2; script_add; wish_end; end; clean paused
next "never connected, and the script never ran"
vbd; await_state 2; wish_end; await_state 6; remove_nodes; clean "no script"
next "the toolstack is faster than we are"
vbd; wish_end; await_state 6; remove_nodes; clean fast
next "gone before we looked"
vbd; remove_nodes; clean "gone at once"
next "both nodes go while it is connected: block-tap remove never runs"
vbd; script_add; front_rings; await_state 4; remove_nodes
await_log "disconnect 1/$dev"; clean "orphan"	# collected

next "the frontend's module is loaded again: 6, 1, 3"
vbd; await_state 2; script_add; front_rings; await_state 4; front 4
for _ in 1 2 3; do
	front 5; await_state 5; front 6; await_state 6
	front 1; await_state 2; front_rings; await_state 4; front 4
done
[ "$(log_count "connect 1/$dev ")" = 4 ] || fail "$(log_count "connect 1/$dev ") of 4"
front 6; end; clean reload

next "it begins again without a word (kexec)"
vbd; await_state 2; script_add; front_rings; await_state 4; front 4
front 1; await_state 2; front_rings; await_state 4
front 6; end; clean kexec

next "two devices on one disk: the second keeps it"
vbd; await_state 2; script_add; front_rings; await_state 4
one=$B
device 1 $((dev + 1)) vbd3
vbd; await_state 2; script_tell; front_rings; await_state 4
xenstore-rm "$one" "${one/0\/backend\/vbd3\/1/1/device/vbd}"
await_log "disconnect 1/$dev"
sleep 6
[ "$(disks)" = 1 ] || fail "its disk was taken for an orphan"
front 6; end; clean "two on one"

next "a disk that another script refers to is no orphan"
create "$img"
toolstack "$img" w @script /etc/xen/scripts/mine; await_state 2; script_tell; front_rings; await_state 4
remove_nodes; await_log "disconnect 1/$dev"; sleep 6
disks_are 1 || fail "it was closed"
destroy "$MINOR"; clean "created"

next "read-only: only the node says so, and the guest may not write"
vbd r; await_state 2; script_add; front_rings; await_state 4
[ "$(xs info)" = 4 ] || fail "info $(xs info)"
[ "$(disk_json "$MINOR" | jq .read_only)" = true ] || fail "opened for writing"
logged "connect 1/$dev .* flags=3 " || fail "$(grep "connect 1/$dev" "$T/ctl.log")"
[ "$(xs feature-discard)/$(xs feature-flush-cache)" = 0/0 ] || fail "features"
front 6; end; clean "read-only"

next "a disk below that says what it cannot: the node of a guest that another opened"
vbd; await_state 2
MINOR=77 PID=4711 script_tell; front_rings; await_log "no disk 77"
state_is 2 || fail "state $(xs state)"
front 6; await_state 6; remove_nodes; clean "lie"

next "removed, or wished away, at any moment"
for i in $(seq 40); do
	vbd; front_rings
	sleep "0.00$((i % 8))"
	if [ $((i % 2)) = 0 ]; then wish_end; await_state 6; fi
	remove_nodes
done
sleep 0.3; clean "any moment"

# --- backend/tap without a script: the image is ours to open.
device 1 51712; N=$(nodes)
note "backend/tap by hand, writable"
toolstack "tap:$img"; await_state 2; wait_for 5 xs hotplug-status >/dev/null
[ "$(xs hotplug-status)" = connected ] || fail "hotplug-status"
front_rings; await_state 4; front 4; await_disks 1
front 5; await_state 5; front 6; await_state 6
wish_end; await_disks 0; remove_nodes; clean "by hand"
note "an image that is not there: an error with text, and it can be taken away"
toolstack "aio:$T/none"; await_state 2
wait_for 5 xs hotplug-error >/dev/null
[[ "$(xs hotplug-error)" == *"No such file"* ]] || fail "$(xs hotplug-error)"
[ "$(xs hotplug-status)" = error ] || fail "hotplug-status"
front_rings; sleep 0.2; state_is 2 || fail "state $(xs state)"
note "another image in its place is tried"
xenstore-write "$B/params" "$img"
await_state 4; [ "$(xs hotplug-status)" = connected ] || fail "$(xs hotplug-status)"
[ -z "$(xs hotplug-error)" ] || fail "it stays: $(xs hotplug-error)"
front 6; wish_end; await_state 6; remove_nodes; clean "no image"
note "made again while the disk of the one before is being closed"
for i in 1 2 3 4 5; do
	toolstack "$img"; await_disks 1; remove_nodes
	toolstack "$img"; wish_end; await_state 6
	remove_nodes; clean "made again"
done
note "its domain is destroyed: nobody else takes the node away"
toolstack "$img"; front_rings; await_state 4; xenstore-rm /local/domain/1
await_gone "$B"; await_disks 0
xenstore-exists /local/domain/0/backend/tap/1 && fail "the guest's folder stays"

# Between our decision and our word: xenstored stands still meanwhile.
device 3 51712
xenstore-write /local/domain/3/device/vbd "" /local/domain/0/backend/tap/3 ""
truncate -s 1M "$T/r.img"
toolstack "aio:$T/r.img"; front_rings; await_state 4; front 4
between()	# COMMAND: comes behind the first step of our transaction
{
	kill -STOP $XS_PID
	truncate -s +1M "$T/r.img"
	tap-ctl resize -m 0 >/dev/null || fail "resize"
	sleep 0.2
	"$@" & sleep 0.3
	kill -CONT $XS_PID
	wait $! || fail "$*"
	sleep 0.3
}
note "the wish to end is not written over"
between wish_end
await_state 5
xenstore-write "$B/online" 1 "$B/state" 4; sleep 0.2
note "what has gone is not made again"
between remove_nodes
xenstore-exists "$B" && fail "made again: $(xenstore-ls "$B")"
await_disks 0
xenstore-rm /local/domain/0/backend/tap/3

# --- a cdrom: another medium, none, and one that is not there.
device 2 51728
xenstore-write /local/domain/2/device/vbd ""
toolstack "$img" r
xenstore-write "$B/device-type" cdrom
front_rings; await_state 4; front 4
[ "$(xs info)" = 5 ] || fail "info $(xs info)"
pid=$(xs kthread-pid)
truncate -s 12M "$T/c.img"; truncate -s 4M "$T/small"
sectors_are() { [ "$(xs sectors)" = "$1" ]; }
spec_is() { [ "$(tap-ctl list | sed 's/.*state=0 args=//')" = "$1" ]; }
xenstore-write "$B/params" "aio:$T/small"
await_log "the new image is smaller"
wait_for 5 spec_is "$img" || fail "the old medium has not come back: $(tap-ctl list)"
xenstore-write "$B/params" "aio:$T/c.img"
wait_for 5 spec_is "aio:$T/c.img" || fail "medium: $(tap-ctl list)"
wait_for 5 sectors_are 24576 || fail "sectors $(xs sectors)"
xenstore-write "$B/params" ""
wait_for 5 spec_is "error:op=read,op=write|null:12582912" || fail "eject: $(tap-ctl list)"
xenstore-write "$B/params" "aio:$T/none"
await_log "medium cannot be changed: .*none: No such file"
wait_for 5 spec_is "error:op=read,op=write|null:12582912" || fail "none: $(tap-ctl list)"
truncate -s 12M "$T/none"	# a moment too late: the same params once more
xenstore-write "$B/params" "aio:$T/none"
wait_for 5 spec_is "aio:$T/none" || fail "not tried again: $(tap-ctl list)"
rm "$T/none"
xenstore-write "$B/params" "aio:$T/c.img"
wait_for 5 spec_is "aio:$T/c.img" || fail "medium: $(tap-ctl list)"
[ "$(log_count "connect 2/51728 ")" = 1 ] || fail "its rings were let go"
front 6; wish_end; await_state 6; await_disks 0; remove_nodes
[ ! -e "/dev/shm/td3-$pid" ] || fail "left: /dev/shm/td3-$pid"
# One that is empty at first, and whose tapdisk dies with the daemon.
toolstack "" r
xenstore-write "$B/device-type" cdrom
front_rings; await_state 4; front 4
spec_is "error:op=read,op=write|null:4096" || fail "empty: $(tap-ctl list)"
xenstore-write "$B/params" "aio:$T/c.img"
wait_for 5 sectors_are 24576 || fail "sectors $(xs sectors): $(tap-ctl list)"
xenstore-write "$B/params" ""
wait_for 5 spec_is "error:op=read,op=write|null:12582912" || fail "eject: $(tap-ctl list)"
minor=$(xs blktap-minor) pid=$(xs kthread-pid)
kill_ctl KILL
rm "$RUN/disk$minor" "$RUN/disk$minor".* 2>/dev/null	# nothing is left to tell of it
kill -KILL "$pid"; wait_for 5 gone "$pid"
start_xen_ctl
moved() { [ "$(xs kthread-pid)" != "$pid" ]; }
wait_for 15 moved || fail "not served: $(tap-ctl xen-list)"
spec_is "error:op=read,op=write|null:12582912" || fail "not opened anew: $(tap-ctl list)"
[ "$(xs state)/$(xs sectors)/$(xs blktap-minor)" = "4/24576/$minor" ] ||
	fail "state/sectors/minor $(xs state)/$(xs sectors)/$(xs blktap-minor)"
front 6; wish_end; await_state 6; await_disks 0; remove_nodes

# --- another device in the place of one, in no time: it has its own image.
for state in 2 4; do
	toolstack "aio:$T/c.img"; await_state 2
	wait_for 5 xs blktap-minor >/dev/null
	[ $state = 2 ] || { front_rings; await_state 4; front 4; }
	hold_ctl
	remove_nodes
	toolstack "$img"
	let_go_ctl
	await_state 2; front_rings; await_state 4; front 4
	spec_is "$img" || fail "in state $state: served by $(tap-ctl list)"
	front 6; wish_end; await_state 6; await_disks 0; remove_nodes; await_gone "$B"
done
toolstack "$img" w @script /etc/xen/scripts/block-tap; await_state 2
hold_ctl
remove_nodes
toolstack "$img" w @script /etc/xen/scripts/block-tap
let_go_ctl
await_state 2; remove_nodes
stop_ctl
