#!/bin/bash
# TIMEOUT: 400
# libnbd against a model in memory: random commands of all kinds at random bytes,
# overlapping ones in order, over two connections, with and without structured
# replies.  LONG=1: OPS of them.
set -u
. "$(dirname "$0")/../lib/test.sh"
requires python3 jq
requires_libnbd
seed
count=3000
[ -n "${LONG:-}" ] && count=${OPS:-60000}

cat >"$T/model.py" <<'PY'
import errno, random, sys
import nbd

uri, seed, count, structured = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1"
rng = random.Random(seed)

def connect():
    h = nbd.NBD()
    h.set_request_structured_replies(structured)
    if structured:
        h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.set_strict_mode(0)
    h.connect_uri(uri)
    return h

conns = [connect(), connect()]
size = conns[0].get_size()
model = bytearray(conns[0].pread(min(size, 32 << 20), 0))
assert len(model) == size
# what a trim leaves is not known until it has been read or written
known = bytearray(b"\1") * size
log = []

def span():
    n = rng.choice([1, rng.randrange(1, 512), 512, rng.randrange(1, 8192), 4096,
                    65536, rng.randrange(1, 1 << 20)])
    n = min(n, size)
    at = rng.randrange(0, size - n + 1)
    if rng.random() < 0.5:
        at -= at % rng.choice([512, 4096])
    return at, n

def check(data, at, n):
    if data == model[at:at + n]:
        return
    for i in range(n):
        if known[at + i] and data[i] != model[at + i]:
            print("\n".join(log[-20:]))
            sys.exit("seed %d: byte %d is %d, not %d" % (seed, at + i, data[i], model[at + i]))
    model[at:at + n] = data
    known[at:at + n] = b"\1" * n

for i in range(count):
    h = rng.choice(conns)
    op = rng.choice(["read"] * 4 + ["write"] * 4 + ["zero", "zero", "trim", "cache",
                    "flush", "status", "beyond"])
    at, n = span()
    fua = nbd.CMD_FLAG_FUA if rng.random() < 0.1 else 0
    log.append("%d %s %d+%d fua=%d" % (i, op, at, n, fua))
    if op == "read":
        df = nbd.CMD_FLAG_DF if structured and rng.random() < 0.3 else 0
        check(h.pread(n, at, df), at, n)
    elif op == "write":
        data = rng.randbytes(n)
        h.pwrite(data, at, fua)
        model[at:at + n] = data
        known[at:at + n] = b"\1" * n
    elif op == "zero":
        f = fua | (nbd.CMD_FLAG_NO_HOLE if rng.random() < 0.5 else 0)
        f |= nbd.CMD_FLAG_FAST_ZERO if rng.random() < 0.3 else 0
        try:
            h.zero(n, at, f)
            model[at:at + n] = bytes(n)
            known[at:at + n] = b"\1" * n
        except nbd.Error as e:
            assert f & nbd.CMD_FLAG_FAST_ZERO and e.errnum == errno.ENOTSUP, e
    elif op == "trim":
        h.trim(n, at, fua)
        known[at:at + n] = bytes(n)
    elif op == "cache":
        h.cache(n, at)
    elif op == "flush":
        h.flush()
    elif op == "status" and structured:
        got = []
        def cb(ctx, off, extents, err):
            got.extend(zip(extents[::2], extents[1::2]))
        one = nbd.CMD_FLAG_REQ_ONE if rng.random() < 0.3 else 0
        h.block_status(n, at, cb, one)
        assert got and sum(l for l, _ in got) <= n and (not one or len(got) == 1)
        pos = at
        for l, f in got:
            assert l > 0
            if f & 2 and all(known[pos:pos + l]):
                assert not any(model[pos:pos + l]), "told zero, but is not: %d+%d" % (pos, l)
            pos += l
    elif op == "beyond":
        for fn, want in ((lambda: h.pread(512, size - 511), errno.EINVAL),
                         (lambda: h.pwrite(bytes(512), size - 511), errno.ENOSPC),
                         (lambda: h.zero(512, size), errno.ENOSPC),
                         (lambda: h.trim(512, size), errno.EINVAL)):
            try:
                fn()
                sys.exit("seed %d: a request beyond the end succeeded" % seed)
            except nbd.Error as e:
                assert e.errnum == want, e
for at in range(0, size, 1 << 20):
    n = min(1 << 20, size - at)
    check(conns[0].pread(n, at), at, n)
conns[0].flush()
for h in conns:
    h.shutdown()
PY

start_ctl
truncate -s 5M "$T/a.img"
for spec in "aio:$T/a.img" ram:3M; do
	create "$spec"
	for structured in 1 0; do
		"$PY" "$T/model.py" "$URI" "$SEED" $count $structured ||
			fail "$spec, structured $structured (seed $SEED)"
		note "ok: $spec, structured replies $structured"
	done
	destroy "$MINOR"
done
stop_ctl
