#!/bin/bash
# A run directory without room: what is asked fails with that reason, leaves
# nothing half made, and what is there serves on and can be removed; and a tapdisk that
# dies then is replaced, also by the next daemon.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq qemu-img
requires_root "mount a small file system"
small_fs "$T/fs" size=64k,nr_inodes=12 || skip "cannot mount a tmpfs here"
RUN=$T/fs/run
export BLKTAP_RUNDIR="$RUN"
start_ctl
names() { (cd "$RUN" && find . -mindepth 1 | sort | tr '\n' ' '); }
create ram:1M
before=$(names)
# no inode for the sockets of a second one
for verb in "create -a ram:1M" spawn; do
	# shellcheck disable=SC2086
	refuse 28 within5 tap-ctl $verb
	[ "$(names)" = "$before" ] || fail "$verb: $(names)"
	[ "$(tapdisk_pids)" = "$PID" ] || fail "$verb: $(tapdisk_pids)"
done
# no block, nor an inode for a marker
n=0
while : 2>/dev/null >"$T/fs/fill$((n++))"; do :; done
dd if=/dev/zero of="$T/fs/fill0" bs=4k 2>/dev/null
for verb in "create -a ram:1M" allocate; do
	# shellcheck disable=SC2086
	refuse 28 within5 tap-ctl $verb
	[[ $ERR != *"all minors are taken"* ]] || fail "the wrong reason: $ERR"
	[ "$(names)" = "$before" ] || fail "$verb: $(names)"
done
tap-io -m "$MINOR" -c 'write 0 4k' -c 'read 0 4k' >/dev/null || fail "I/O"
destroy "$MINOR"
rm "$T/fs"/fill*
create ram:1M
stop_ctl

# --- both die while there is no room: nothing is forgotten, nor lost.
mount -o remount,size=24m,nr_inodes=100 "$T/fs" || fail "remount"
mkdir "$T/bin"
printf '#!/bin/sh\nwhile [ -e "%s/slow" ]; do sleep 0.1; done\nexec "%s/tapdisk" "$@"\n' "$T" "$BIN" >"$T/bin/tapdisk"
chmod +x "$T/bin/tapdisk"
qemu-img create -q -f qcow2 "$T/a.qcow2" 32M || fail "qemu-img"
is() { [ "$(disk_state "$MINOR")" = "$1" ]; }
fill() { dd if=/dev/zero of="$T/fs/fill" bs=4k 2>/dev/null; }
start_ctl --tapdisk "$T/bin/tapdisk"
create "qcow2:$T/a.qcow2"
first=$PID
tap-io -m "$MINOR" -c 'write -q -P 6 1M 256k' || fail "write"
fill
for i in 1 2; do
	sleep 1.1
	kill -KILL "$(disk_json "$MINOR" | jq .pid)"
	replaced() { [ "$(disk_json "$MINOR" | jq .restarts)" = $i ] && is running; }
	wait_for 20 replaced || fail "$(tap-ctl list)"
done
sleep 1.1
: >"$T/slow"
kill -KILL "$(disk_json "$MINOR" | jq .pid)"
wait_for 20 is opening || fail "$(tap-ctl list)"
kill_ctl KILL
for p in $(tapdisk_pids); do kill -KILL "$p"; done
rm "$T/slow"
start_ctl --tapdisk "$T/bin/tapdisk"
wait_for 20 is running || fail "$(tap-ctl list)"
tap-io -m "$MINOR" -c 'read -q -P 6 1M 256k' || fail "read"
tap-ctl list -p "$first" | grep -q "minor=$MINOR" || fail "its first pid is forgotten"
destroy "$MINOR"
stop_ctl
