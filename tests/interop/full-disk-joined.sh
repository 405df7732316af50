#!/bin/bash
# Small writes that go to the kernel as one meet a full file system, or a limit of the
# file's size: each is answered for itself.  What was answered as written can be read,
# all else is ENOSPC, and nothing is written behind the limit.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires python3 jq
requires_libnbd

# writes.py URI OFFSET COUNT [END]: so many neighbours of 4 KiB at once.  END: what ends
# there can be written, and no more; 0: some can.
cat >"$T/writes.py" <<'PY'
import errno, sys
import nbd

uri, at, count, end = sys.argv[1], *map(int, sys.argv[2:5])
LEN = 4096
h = nbd.NBD()
h.connect_uri(uri)
page = lambda i: bytes([i % 251 + 1, i >> 8 & 255]) * (LEN // 2)
cookies = [h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(page(i))), at + i * LEN)
           for i in range(count)]
err = [None] * count
while None in err:
    for i, c in enumerate(cookies):
        if err[i] is None:
            try:
                if h.aio_command_completed(c):
                    err[i] = 0
            except nbd.Error as e:
                err[i] = e.errnum
    if None in err:
        h.poll(-1)
for i, e in enumerate(err):
    if e not in (0, errno.ENOSPC):
        sys.exit("write %d: errno %d" % (i, e))
    if end and (e == 0) != (at + (i + 1) * LEN <= end):
        sys.exit("write %d at %d, and the end is at %d: errno %d" % (i, at + i * LEN, end, e))
    if e == 0 and h.pread(LEN, at + i * LEN) != page(i):
        sys.exit("write %d was answered as done, and reads otherwise" % i)
print(err.count(0), "written,", len(err) - err.count(0), "refused")
if not 0 < err.count(0) < count:
    sys.exit("all alike")
PY

writes() { timeout 400 "$PY" "$T/writes.py" "$@" || fail "$*"; }

# A limit within a page: what ends before it is written, what it cuts is not.
end=$(((40 << 20) + 2048))
truncate -s 64M "$T/a.img"
ulimit -S -f $((end / 1024))
start_ctl
ulimit -S -f unlimited
create "aio:$T/a.img"
for before in 1 2 5 17 31 32 33 60; do
	writes "$URI" $(((40 << 20) - before * 4096)) 64 $end
done
cmp -n $((20 << 20)) -i $end:0 "$T/a.img" /dev/zero || fail "written behind the limit"
destroy "$MINOR"
stop_ctl

# A file system without space.
if small_fs "$T/small" size=12m; then
	truncate -s 64M "$T/small/b.img"
	start_ctl
	create "aio:$T/small/b.img"
	writes "$URI" 0 4096 0
	pid=$PID
	[ "$(pid_of "$MINOR")" = "$pid" ] || fail "another tapdisk"
	destroy "$MINOR"
	stop_ctl
else
	note "no file system of its own here: only the limit was tried"
fi
