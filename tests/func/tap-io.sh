#!/bin/bash
# tap-io: patterns, several queues and layouts, what is refused, and the exit
# codes that its man page promises.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires jq
start_ctl
truncate -s 4M "$T/disk.img"
create "aio:$T/disk.img"
io() { tap-io -m "$MINOR" "$@"; }
good() { io "$@" >"$T/out" 2>&1 || fail "tap-io $*: $? $(cat "$T/out")"; }
bad()
{
	io "$@" >"$T/out" 2>&1
	rc=$?
	[ $rc = 1 ] || fail "tap-io $*: status $rc, not 1: $(cat "$T/out")"
}

for abi in native x86_32 x86_64; do
	for order in 0 4; do
		good --abi $abi --order $order --queues 3 \
			-c 'write -P 0x11 0 4M' -c 'write -P 0x22 512 1536' \
			-c 'read -P 0x11 0 512' -c 'read -P 0x22 512 1536' \
			-c 'read -P 0x11 2k 1M' -c flush
	done
done
[ "$(head -c 3072 "$T/disk.img" | tail -c 2560 | tr -d '"' | wc -c)" = 1024 ] ||
	fail "the file does not hold what was written"
good -c 'aio_write -q -P 1 0 64k' -c 'aio_write -q -P 2 64k 512k' -c aio_flush \
	-c 'aio_read -q -P 1 0 64k' -c 'aio_read -q -P 2 64k 512k' -c aio_flush
good -c 'barrier 7 8k 44k' -c 'read -P 7 8k 44k' -c barrier
good -c 'write -z 1M 1M' -c 'read -P 0 1M 1M' -c 'discard 1M 1M'
good --max-segments 11 --poll-us 100 -c 'verify --seed 3 --ops 2000 --bs 44k'
printf '# a comment\n\nwrite -q -P 3 0 4k\nread -P 3 0 4k\nquit\nbogus\n' |
	io >"$T/out" 2>&1 || fail "a script on stdin: $(cat "$T/out")"
[ "$(io -c length)" = 4194304 ] || fail "length"
io -c 'read -v 0 512' | grep -q '^00000000:  03 03 03' || fail "no dump"

bad -c 'read -P 4 0 4k'
grep -q 'Pattern verification failed at offset 0' "$T/out" || fail "which offset?"
bad -c 'aio_read -P 4 0 4k' -c aio_flush
bad -c 'read 4M 512'			# beyond the end
bad -c 'read 0 100'
bad -c 'read 0'
bad -c 'read -P 256 0 512'
bad -c bogus
bad -c 'barrier 1 0 48k'
bad -r -c 'write 0 512'
bad -r -c 'discard 0 4k'
bad -c bogus -c 'read -q 0 512'
printf 'bogus\nread -q 0 512\n' | io >/dev/null 2>&1 && fail "a bad line passed"

refuse 2 tap-io
refuse 2 tap-io -m "$MINOR" "$RING"
refuse 2 tap-io -m x
refuse 2 tap-io -m "$MINOR" --abi arm
refuse 2 tap-io -m "$MINOR" --queues 9
refuse 2 tap-io -m "$MINOR" --bogus
refuse 2 tap-io -m 99 -c length
refuse 2 tap-io "$T/disk.img" -c length
refuse 2 tap-io "$RUN/ctl.sock" -c length --data 64k
tap-io "$RING" -c length --rundir / >/dev/null || fail "a socket by name"
destroy "$MINOR"

create "aio:$T/disk.img" -R
good -c 'read -q 0 4k'
bad -c 'write 0 4k'
io -c info | grep -q 'read-only: yes' || fail "info of a read-only disk"
destroy "$MINOR"
stop_ctl
