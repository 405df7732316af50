#!/bin/bash
# A run directory without room: what is asked fails with that reason, leaves
# nothing half made, and what is there serves on and can be removed.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
requires_root "mount a small file system"
mkdir "$T/fs"
mount -t tmpfs -o size=64k,nr_inodes=12 none "$T/fs" 2>/dev/null ||
	skip "cannot mount a tmpfs here"
at_exit "umount '$T/fs'"
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
