#!/bin/bash
# TIMEOUT: 240
# A disk that a hotplug script opened, and whose node never comes to name it, since the
# script was killed: it goes when the node has, also by the next daemon.  A script that is
# slow, but at work, keeps its disk.  One that cannot be closed at once is closed later.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
. "$(dirname "$0")/../lib/xen.sh"
for f in a b c d; do truncate -s 8M "$T/$f.img"; done
start_xenstored
start_xen_ctl
mkdir -p "$T/bin"
for p in "$BIN/tap-ctl" "$(command -v xenstore-read)" "$(command -v xenstore-write)"; do
	ln -s "$p" "$T/bin/"
done
sed "s,^PATH=,PATH=$T/bin:," "$TOP/tools/xen/block-blktap" >"$T/block-blktap"

# killed_script NAME IMAGE: it has opened the image, and tells its node nothing.
killed_script()
{
	local told
	toolstack "aio:$2" w @script "/etc/xen/scripts/$1"; await_state 2
	if [ "$1" = block-tap ]; then
		told=$(declare -f script_tell)
		script_tell() { :; }
		script_add
		eval "$told"
		return
	fi
	printf '#!/bin/sh\nkill -KILL $PPID\n' >"$T/xenstore-write"
	chmod +x "$T/xenstore-write"
	mv -T "$T/xenstore-write" "$T/bin/xenstore-write"
	XENBUS_PATH=${B#/local/domain/0/} bash "$T/block-blktap" add
	[ $? = 137 ] || fail "the script was not killed"
	MINOR=$(tap-ctl list | sed -n "s,.*minor=\([0-9]*\).*aio:$2\$,\1,p")
	PID=$(pid_of "$MINOR")
}
xentop_gone() { [ ! -e "/dev/shm/td3-$PID" ]; }
closed()
{
	local list
	list=$(tap-ctl list) && ! grep -q -- "$1" <<<"$list"
}
await_closed() { wait_for 15 closed "$1" || fail "left: $(tap-ctl list)"; }

note "a script that is slow"
device 1 51776
script_tell_later=$(declare -f script_tell)
script_tell() { :; }
toolstack "aio:$T/d.img" w @script /etc/xen/scripts/block-tap; await_state 2
script_add
eval "$script_tell_later"
slow="$PID $MINOR" slow_since=$SECONDS

note "killed, and the nodes go; killed, and nobody sees that they do"
device 1 51712 vbd3; killed_script block-tap "$T/a.img"; first=$MINOR
device 1 51728 vbd3; killed_script block-blktap "$T/b.img"
device 1 51712 vbd3; wish_end; await_state 6; remove_nodes
device 1 51728 vbd3; wish_end; await_state 6; remove_nodes
await_closed "a.img"
await_closed "b.img"
[ "$(log_count "disk $first: no node of xenstore refers")" = 1 ] || fail "$(grep "no node" "$T/ctl.log")"
device 1 51712 vbd3; killed_script block-tap "$T/a.img"
device 1 51728 vbd3; killed_script block-blktap "$T/b.img"
kill_ctl KILL
remove_nodes; device 1 51712 vbd3; remove_nodes
start_xen_ctl
await_closed "a.img"
await_closed "b.img"

note "killed, and the toolstack tries again with another image"
device 1 51712 vbd3; killed_script block-tap "$T/a.img"
wish_end; await_state 6; remove_nodes
toolstack "aio:$T/c.img" w @script /etc/xen/scripts/block-tap; await_state 2
script_add
await_closed "a.img"
front_rings; await_state 4
front 6; await_state 6; wish_end; script_remove; remove_nodes; await_gone "$B"

note "an own disk, whose device went without a daemon: xentop's file goes as well"
device 1 51744; toolstack "aio:$T/c.img"; front_rings; await_state 4; front 4
PID=$(xs kthread-pid)
[ -e "/dev/shm/td3-$PID" ] || fail "no file for xentop"
kill_ctl KILL
remove_nodes
start_xen_ctl
await_closed "c.img"
wait_for 5 xentop_gone || fail "left: /dev/shm/td3-$PID"

note "the slow one has its disk still"
while [ $((SECONDS - slow_since)) -lt 16 ]; do sleep 0.5; done
device 1 51776; read -r PID MINOR <<<"$slow"
script_tell; front_rings; await_state 4; front 4

note "one that cannot be closed at once"
front 6; await_state 6
kill -STOP "$PID"
remove_nodes
await_closing() { logged "cannot destroy"; }
wait_for 50 await_closing || fail "not tried: $(tap-ctl list)"
kill -CONT "$PID"
wait_for 30 disks_are 0 || fail "never closed: $(tap-ctl list)"
stop_ctl
