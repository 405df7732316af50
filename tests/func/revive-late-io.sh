#!/bin/bash
# A tapdisk that is killed as a slow write of its is on the way is replaced only when
# that has ended: it cannot land on what the next one writes.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq nbdkit nbdfuse
requires_root "mount a slow file"
[ -e /dev/fuse ] || skip "no /dev/fuse"

nbdkit -f -U "$T/slow.sock" --filter=log --filter=delay memory 16M delay-write=2 \
	logfile="$T/store.log" 2>"$T/nbdkit.err" &
own $!
wait_for 5 [ -S "$T/slow.sock" ] || fail "nbdkit: $(cat "$T/nbdkit.err")"
touch "$T/slow.img"
nbdfuse "$T/slow.img" "nbd+unix:///?socket=$T/slow.sock" 2>"$T/fuse.err" &
fuse=$!
own $fuse
at_exit "umount -l '$T/slow.img' 2>/dev/null; wait $fuse 2>/dev/null"
mounted() { mountpoint -q "$T/slow.img" || [ "$(stat -c %s "$T/slow.img")" = $((16 << 20)) ]; }
wait_for 5 mounted || skip "cannot mount by nbdfuse: $(cat "$T/fuse.err")"

writes() { grep -c "$1" "$T/store.log"; }	# begun: ' Write id'; ended: '...Write'
start_ctl --tapdisk-arg --no-sandbox	# FUSE serves nobody but who mounted it
create "aio:$T/slow.img"
tap-io -m "$MINOR" -c 'write -P 7 0 4k' -c 'read -P 7 0 4k' >"$T/io.out" 2>&1 &
io=$!
own $io
wait_for 5 grep -q ' Write id' "$T/store.log" || fail "it does not write: $(cat "$T/store.log")"
kill -KILL "$PID"
another() { [ "$(disk_json "$MINOR" | jq ".pid > 0 and .pid != $PID")" = true ]; }
# What has come first?  (The list is older than the log.)
wait_for 15 another || fail "not replaced: $(tap-ctl list)"
grep -q '\.\.\.Write id' "$T/store.log" ||
	fail "another serves, and the write has not ended: $(cat "$T/store.log")"
wait $io || fail "the client: $(cat "$T/io.out")"
[ "$(writes ' Write id')" = "$(writes '\.\.\.Write id')" ] || fail "$(cat "$T/store.log")"
destroy "$MINOR"
stop_ctl
