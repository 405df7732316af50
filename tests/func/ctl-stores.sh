#!/bin/bash
# The two files that outlive a tapdisk, its journal and its redo log: made with the
# disk, for its owner alone, passed to its tapdisk, gone with it; those of the dead
# are removed; without room for them there is no disk.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq qemu-img
truncate -s 1M "$T/a.img"
qemu-img create -q -f qcow2 "$T/a.qcow2" 1M || fail "qemu-img"
has() { find "/proc/$1/fd" -lname "$RUN/$2" 2>/dev/null | grep -q .; }
both() # MINOR PID
{
	for f in journal redo; do
		[[ $(stat -c '%a %F %s' "$RUN/$f$1") == "600 regular file 8"?????? ]] ||
			fail "$(stat "$RUN/$f$1")"
	done
	[ "$(id -u)" != 0 ] || has "$2" "journal$1" || fail "it has no journal"
}
start_ctl
create "aio:$T/a.img"
both "$MINOR" "$PID"
[ "$(stat -c %b "$RUN"/redo0)" -le 64 ] || fail "a redo log that nobody needs has room"
create "qcow2:$T/a.qcow2"
both "$MINOR" "$PID"
[ "$(stat -c %b "$RUN"/redo1)" -ge 16384 ] || fail "no room of its own"
spawned=$(tap-ctl spawn)
tap-ctl allocate >/dev/null && tap-ctl attach -p "$spawned" -m 2 || fail "attach"
both 2 "$spawned"
# They are no images of its: a new daemon does not take them for such.
kill_ctl KILL
touch "$RUN"/journal9 "$RUN"/redo9 "$RUN"/redo1000000
mkdir "$RUN"/redo8
start_ctl
has_images() { [ "$(find "/proc/$CTL_PID/fd" -lname "$T/a.*" | wc -l)" = 2 ]; }
[ "$(id -u)" != 0 ] || wait_for 5 has_images || fail "their images are not taken: $(ls -l "/proc/$CTL_PID/fd")"
both 0 "$(disk_json 0 | jq .pid)"
[ "$(id -u)" != 0 ] || ! has "$CTL_PID" 'journal*' || fail "taken for an image"
[ ! -e "$RUN"/journal9 ] && [ ! -e "$RUN"/redo9 ] && [ ! -e "$RUN"/redo1000000 ] ||
	fail "leftovers stay: $(ls "$RUN")"
rmdir "$RUN"/redo8 || fail "a foreign folder is gone"
tap-ctl detach -m 2 -p "$spawned" || fail "detach"
for n in 0 1; do destroy $n; done
ls "$RUN" | grep -E 'journal|redo' && fail "they stay"
stop_ctl

# --- who has no successor has no use for them
start_ctl
create ram:1M
[ ! -e "$RUN/journal0" ] && [ ! -e "$RUN/redo0" ] || fail "a disk in memory has them"
kill_ctl KILL
start_ctl --no-restart
create "aio:$T/a.img"
[ ! -e "$RUN/journal$MINOR" ] || fail "a disk that is not restarted has a journal"
stop_ctl

# --- no room
requires_root "a full run directory is a small tmpfs; the rest has passed"
small_fs "$T/fs" size=4m ||
	skip "no tmpfs can be mounted for a full run directory; the rest has passed"
RUN=$T/fs/run
export BLKTAP_RUNDIR="$RUN"
start_ctl
before=$(ls "$RUN")
refuse 28 within5 tap-ctl create -a "qcow2:$T/a.qcow2"
[[ $ERR == *"redo log room in the run directory"* ]] || fail "$ERR"
[ "$(ls "$RUN")" = "$before" ] || fail "left: $(ls "$RUN")"
[ -z "$(tapdisk_pids)" ] || fail "a tapdisk is left"
create "qcow2:$T/a.qcow2" -R
destroy "$MINOR"
create "aio:$T/a.img"
stop_ctl
