#!/bin/bash
# What Xen's hotplug script block-tap (4.19) does with tap-ctl, step by step and
# with its own parsing, with the default run directory in a mount namespace of
# our own: add, add again (the same disk is found), a failing add is rolled
# back, remove.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires_root "the default run directory, in a private mount namespace"
requires unshare mount qemu-io
if [ -z "${BLOCK_TAP_INSIDE:-}" ]; then
	unshare -m --propagation private true 2>/dev/null ||
		skip "no mount namespaces here"
	BLOCK_TAP_INSIDE=1 unshare -m --propagation private bash "$0"
	exit $?
fi
mount -t tmpfs none /run || skip "cannot mount in a namespace"
if [ ! /var/run -ef /run ]; then mount --bind /run /var/run || skip "/var/run"; fi
unset BLKTAP_RUNDIR
RUN=/var/run/tap
truncate -s 4M "$T/disk.img"
start_ctl

# block-tap's find_device: the last pid and minor that the list mentions.
find_device()
{
	local info param
	pid='' minor=''
	info=$(tap-ctl list -t "$1" -f "$2")
	for param in $(echo "$info" | tr "," "\n"); do
		case $param in
		pid=*) pid=${param#pid=} ;;
		minor=*) minor=${param#minor=} ;;
		esac
	done
	[ -n "$pid" ] && [ -n "$minor" ]
}
# block-tap's tap_create, with its roll-back.
tap_create()
{
	minor=$(tap-ctl allocate) || fail "allocate"
	minor=${minor#/run/blktap-control/tapdisk/tapdisk-}
	minor=${minor#/dev/xen/blktap-2/tapdev}
	[[ $minor =~ ^[0-9]+$ ]] || fail "allocate does not print what is stripped: $minor"
	exec {lock}>"$T/lock"
	pid=$( (eval "exec $lock>&-"; tap-ctl spawn) ) || {
		tap-ctl free -m "$minor"
		return 1
	}
	[ ! "/proc/$pid/fd/$lock" -ef "$T/lock" ] || fail "tapdisk holds the lock"
	tap-ctl attach -p "$pid" -m "$minor" || {
		tap-ctl free -m "$minor"
		return 1
	}
	tap-ctl open -p "$pid" -m "$minor" -a "$1" || {
		tap-ctl detach -p "$pid" -m "$minor"
		tap-ctl free -m "$minor"
		return 1
	}
}

# Entries of others must not confuse it.
tap-ctl allocate >/dev/null
idle=$(tap-ctl spawn)
find_device aio "$T/disk.img" && fail "found what is not there: $pid $minor"
tap_create "aio:$T/disk.img" || fail "add"
was="$pid $minor"
tap-ctl allocate >/dev/null
find_device aio "$T/disk.img" || fail "not found: $(tap-ctl list)"
[ "$pid $minor" = "$was" ] || fail "found $pid $minor, not $was"

# What tapback and qemu are told: tapdisk3's path of the NBD socket.
dev=$(printf '/run/blktap-control/nbd%ld.%d' "$pid" "$minor")
[ -e "$dev" ] || fail "no $dev: $(ls -lR /run/blktap-control)"
qemu-io -f raw "nbd+unix:///?socket=$dev" -c 'write -P 7 1M 64k' -c flush >/dev/null ||
	fail "I/O through $dev"
[ "$(od -An -tu1 -j 1M -N 1 "$T/disk.img" | tr -d ' ')" = 7 ] || fail "no data"

# A failing add leaves nothing.
list=$(tap-ctl list)
tap_create "aio:$T/none.img" 2>"$T/err" && fail "opened what is not there"
wait_for 5 gone "$pid" || fail "the spawned tapdisk stays"
[ "$(tap-ctl list)" = "$list" ] || fail "left: $(tap-ctl list)"

# remove
read -r pid minor <<<"$was"
tap-ctl destroy -p "$pid" -m "$minor" >"$T/out" || fail "destroy"
[ ! -s "$T/out" ] || fail "destroy printed: $(cat "$T/out")"
[ ! -e "$dev" ] || fail "$dev stays"
find_device aio "$T/disk.img" && fail "still there"
kill -0 "$idle" || fail "the wrong process ended"
# 4.17's: create, whose output it takes for the device.
dev=$(tap-ctl create -a "aio:$T/disk.img") || fail "create"
[ "${dev#/run/blktap-control/tapdisk/tapdisk-}" != "$dev" ] || fail "create: $dev"
find_device aio "$T/disk.img" && tap-ctl destroy -p "$pid" -m "$minor" || fail "remove"
stop_ctl
