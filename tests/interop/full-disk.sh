#!/bin/bash
# A full file system is an error to the client that it can name (ENOSPC); the
# disk lives on, and works again when there is room.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires qemu-io losetup mkfs.ext4 jq
requires_root "a small file system"

truncate -s 24M "$T/fs.img"
mkfs.ext4 -q -m 0 -O ^has_journal "$T/fs.img" || fail "mkfs"
mkdir "$T/mnt"
mount -o loop "$T/fs.img" "$T/mnt" 2>"$T/mount.err" ||
	skip "cannot mount: $(head -n 1 "$T/mount.err")"
at_exit "umount -l $T/mnt"
truncate -s 64M "$T/mnt/disk.img"
start_ctl
create "aio:$T/mnt/disk.img"
pid=$PID

qemu-io -f raw "$URI" -c 'write -P 1 0 4M' -c 'flush' >/dev/null || fail "write"
qemu-io -f raw "$URI" -c 'write -P 2 8M 32M' >"$T/out" 2>&1
grep -qi 'no space left' "$T/out" || fail "no ENOSPC: $(cat "$T/out")"
note "client: $(head -n 1 "$T/out")"

# What was there is there, the process is the same, and reads go on.
qemu-io -f raw "$URI" -c 'read -P 1 0 4M' >"$T/out" 2>&1 || fail "$(cat "$T/out")"
grep -q 'verification failed' "$T/out" && fail "$(cat "$T/out")"
kill -0 "$pid" || fail "tapdisk ended"
[ "$(disk_json "$MINOR" | jq .pid)" = "$pid" ] || fail "another tapdisk"

# Room again: discard gives it back.
qemu-io -f raw "$URI" -c 'discard 8M 32M' -c 'write -P 3 40M 4M' -c flush \
	-c 'read -P 3 40M 4M' >"$T/out" 2>&1 || fail "$(cat "$T/out")"
grep -Eq 'verification failed|rror' "$T/out" && fail "$(cat "$T/out")"
destroy "$MINOR"
stop_ctl
