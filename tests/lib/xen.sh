# xen.sh - a real xenstored on this host, and functions that play toolstack and
# frontend on it by xenstore-write.  Source it after test.sh.
#
#	start_xenstored; start_xen_ctl [OPTION...]
#
# B and F are the two halves of the device that the functions are about.
# shellcheck shell=bash disable=SC2034,SC2154

requires xenstore-write xenstore-read xenstore-ls
# The programs in Debian's PATH are wrappers that look for a hypervisor.
XENSTORED=$(find /usr/lib/xen-*/bin/xenstored /usr/local/sbin/xenstored 2>/dev/null |
	tail -n 1)
[ -n "$XENSTORED" ] || skip "needs xenstored (xen-utils)"
[ -f "$BUILD/hostxen/xenstored.so" ] || skip "built without Xen"
export XENSTORED_RUNDIR="$T/xs" XENSTORED_PATH="$T/xs/socket"
mkdir -p "$T/xs"

start_xenstored()
{
	rm -f "$T/xs/socket"
	LD_PRELOAD="$BUILD/hostxen/xenstored.so" "$XENSTORED" -N \
		-F "$T/xs/pid" >>"$T/xs/log" 2>&1 &
	XS_PID=$!
	own $XS_PID
	wait_for 5 xenstore-ls / >/dev/null 2>&1 || skip "xenstored does not run here"
}
stop_xenstored()
{
	kill -KILL "$XS_PID"
	wait "$XS_PID" 2>/dev/null
}
# A daemon whose tapdisks take rings for what blktapctrl says they are.
start_xen_ctl() { start_ctl --tapdisk "$BUILD/hostxen/tapdisk" "$@"; }

# The daemon stands still until let_go_ctl: it sees all that is done meanwhile, or none.
# Not in the midst of a message to xenstored, which reads a head and then waits for its
# body, whoever else asks.
hold_ctl()
{
	local i
	for i in 1 2 3 4 5; do
		kill -STOP "$CTL_PID"
		! timeout 5 xenstore-exists / || return 0
		kill -CONT "$CTL_PID"
		sleep 0.2
	done
	fail "xenstored does not answer"
}
let_go_ctl() { kill -CONT "$CTL_PID"; }

# device DOMID DEVID [KIND]: B and F are its halves now.
device()
{
	DOM=$1 DEV=$2 KIND=${3:-tap}
	B=/local/domain/0/backend/$KIND/$DOM/$DEV
	F=/local/domain/$DOM/device/vbd/$DEV
}
# toolstack PARAMS [MODE [@KEY VALUE]...]: both halves of it, as one transaction.
toolstack()
{
	local params=$1 mode=${2:-w}
	shift; [ $# = 0 ] || shift
	xenstore-write "$B/frontend" "$F" "$B/frontend-id" "$DOM" "$B/online" 1 \
		"$B/removable" 0 "$B/bootable" 1 "$B/dev" xvda "$B/type" "$KIND" \
		"$B/mode" "$mode" "$B/device-type" disk "$B/params" "$params" \
		"$B/state" 1 "$F/backend" "$B" "$F/backend-id" 0 \
		"$F/virtual-device" "$DEV" "$F/device-type" disk "$F/state" 1 \
		"${@/#@/$B/}" || fail "xenstore-write"
}
# front STATE [KEY VALUE]...: the frontend's half.
front()
{
	local s=$1 args=()
	shift
	while [ $# -gt 0 ]; do args+=("$F/$1" "$2"); shift 2; done
	xenstore-write -- "${args[@]}" "$F/state" "$s" || fail "xenstore-write"
}
# What blkfront writes with one ring.
front_rings() { front 3 ring-ref 8 event-channel 9 protocol x86_64-abi feature-persistent 1; }
xs() { xenstore-read "$B/$1" 2>/dev/null; }
state_is() { [ "$(xs state)" = "$1" ]; }
await_state()
{
	wait_for "${2:-5}" state_is "$1" ||
		fail "$B: state $(xs state), not $1; $(xs hotplug-error)"
}
xs_gone() { ! xenstore-exists "$1"; }
await_gone() { wait_for 8 xs_gone "$1" || fail "$1 is still there: $(xenstore-ls "$1")"; }
nodes() { xenstore-ls -f / | wc -l; }
logged() { grep -q -- "$1" "$T/ctl.log"; }
await_log() { wait_for 5 logged "$1" || fail "not in the log: $1"; }
log_count() { grep -c -- "$1" "$T/ctl.log"; }
disks() { tap-ctl list | wc -l; }
await_disks() { wait_for 8 disks_are "$1" || fail "disks: $(tap-ctl list)"; }
disks_are() { [ "$(disks)" = "$1" ]; }
# What block-tap does: add (PID and MINOR are its disk's then) and remove.
script_add()
{
	local marker
	marker=$(tap-ctl allocate) || fail "allocate"
	MINOR=${marker##*tapdisk-}
	PID=$(tap-ctl spawn) || fail "spawn"
	tap-ctl attach -p "$PID" -m "$MINOR" || fail "attach"
	XENBUS_PATH=${B#/local/domain/0/} tap-ctl open -p "$PID" -m "$MINOR" \
		-a "${1:-$(xs params)}" || fail "open"
	script_tell
}
script_tell()
{
	xenstore-write "$B/pid" "$PID" "$B/minor" "$MINOR" "$B/physical-device-path" \
		"/run/blktap-control/nbd$PID.$MINOR" || fail "xenstore-write"
	xenstore-write "$B/hotplug-status" connected || fail "xenstore-write"
}
script_remove() { tap-ctl destroy -p "$PID" -m "$MINOR" || fail "destroy"; }
# What libxl does: the wish to end; the nodes go.
wish_end() { xenstore-write "$B/online" 0 "$B/state" 5 || fail "xenstore-write"; }
remove_nodes() { xenstore-rm "$B" "$F"; }
