#!/usr/bin/env python3
"""Damages a qcow2 image in one of many ways: qcow2damage.py IMAGE KIND SEED.

Prints what it did.  Kinds: see the functions named do_*; "list" prints them.
Status 3: this image has nothing that this kind could damage.
"""
import random
import struct
import sys

MASK = 0x00FFFFFFFFFFFE00
COPIED, PACKED, ZERO = 1 << 63, 1 << 62, 1


class Image:
    def __init__(self, path):
        self.f = open(path, "r+b")
        self.data = self.f.read()
        h = self.data
        self.version, = struct.unpack_from(">I", h, 4)
        self.bits, = struct.unpack_from(">I", h, 20)
        self.cs = 1 << self.bits
        self.size, = struct.unpack_from(">Q", h, 24)
        self.l1_size, self.l1 = struct.unpack_from(">IQ", h, 36)
        self.reft, self.reft_clusters = struct.unpack_from(">QI", h, 48)
        self.snaps, self.snap_at = struct.unpack_from(">IQ", h, 60)
        self.order = 4
        self.incompat = 0
        if self.version >= 3:
            self.incompat, = struct.unpack_from(">Q", h, 72)
            self.order, = struct.unpack_from(">I", h, 96)
        self.ext = bool(self.incompat & 16)
        self.entry = 16 if self.ext else 8
        self.l2n = self.cs // self.entry
        self.clusters = -(-len(h) // self.cs)

    def u64(self, at):
        b = self.data[at:at + 8].ljust(8, b"\0")
        return struct.unpack(">Q", b)[0]

    def put(self, at, v):
        self.raw(at, struct.pack(">Q", v))

    def raw(self, at, b):
        self.f.seek(at)
        self.f.write(b)

    def l1_entries(self):
        return [(self.l1 + 8 * i, self.u64(self.l1 + 8 * i))
                for i in range(self.l1_size) if self.u64(self.l1 + 8 * i)]

    def l2_entries(self, want=lambda v: v):
        out = []
        for _, e in self.l1_entries():
            base = e & MASK
            for i in range(self.l2n):
                at = base + i * self.entry
                v = self.u64(at)
                if want(v):
                    out.append((at, v))
        return out

    def ref_at(self, c):
        """(byte, bits) of the refcount of cluster c, or None."""
        per = self.cs * 8 >> self.order
        t = c // per
        if t >= self.reft_clusters * self.cs // 8:
            return None
        block = self.u64(self.reft + 8 * t)
        return (block, c % per) if block else None

    def ref(self, c, new=None):
        where = self.ref_at(c)
        if not where:
            return 0
        block, i = where
        if self.order >= 3:
            n = 1 << self.order - 3
            at = block + i * n
            old = int.from_bytes(self.data[at:at + n], "big")
            if new is not None:
                self.raw(at, new.to_bytes(n, "big"))
            return old
        at, shift = block + (i >> 3 - self.order), (i << self.order) & 7
        m = ((1 << (1 << self.order)) - 1) << shift
        b = self.data[at]
        if new is not None:
            self.raw(at, bytes([b & ~m & 255 | new << shift & m]))
        return (b & m) >> shift


def pick(r, seq):
    seq = list(seq)
    if not seq:
        sys.exit(3)
    return r.choice(seq)


def plain(v):
    return v & MASK and not v & PACKED


def do_none(im, r):
    return "nothing"


def do_leak(im, r):
    free = [c for c in range(im.clusters) if im.ref_at(c) and not im.ref(c)]
    if free:
        c = pick(r, free)
        im.ref(c, 1)
        return "cluster %d is free, refcount 1" % c
    return do_too_many(im, r)


def do_too_many(im, r):
    if not im.order:
        sys.exit(3)
    c = pick(r, [c for c in range(im.clusters) if im.ref(c)])
    im.ref(c, min(im.ref(c) + r.randint(1, 2), (1 << (1 << im.order)) - 1))
    return "cluster %d has too large a refcount" % c


def do_zero_ref(im, r):
    c = pick(r, [c for c in range(im.clusters) if im.ref(c)])
    im.ref(c, 0)
    return "cluster %d has refcount 0" % c


def do_low_ref(im, r):
    c = pick(r, [c for c in range(im.clusters) if im.ref(c) > 1])
    im.ref(c, im.ref(c) - 1)
    return "cluster %d has too small a refcount" % c


def do_many_refs(im, r):
    out = []
    for _ in range(10):
        c = r.randrange(im.clusters)
        if im.ref_at(c):
            im.ref(c, r.randint(0, min(3, (1 << (1 << im.order)) - 1)))
            im.f.flush()
            im.f.seek(0)
            im.data = im.f.read()
            out.append(c)
    return "refcounts of %s" % out


def do_copied_l2(im, r):
    at, v = pick(r, im.l2_entries(plain))
    im.put(at, v ^ COPIED)
    return "L2 entry at %#x: copied flag" % at


def do_copied_l1(im, r):
    at, v = pick(r, im.l1_entries())
    im.put(at, v ^ COPIED)
    return "L1 entry at %#x: copied flag" % at


def do_copied_packed(im, r):
    at, v = pick(r, im.l2_entries(lambda v: v & PACKED))
    im.put(at, v | COPIED)
    return "compressed entry at %#x: copied flag" % at


def do_double(im, r):
    a, b = pick(r, im.l2_entries(plain)), pick(r, im.l2_entries(plain))
    im.put(a[0], a[1] & ~MASK | b[1] & MASK)
    return "L2 entry at %#x points to the cluster of %#x" % (a[0], b[0])


def do_data_on_table(im, r):
    a = pick(r, im.l2_entries(plain))
    target = r.choice([im.l1, im.reft, im.u64(im.reft), im.l1_entries()[0][1] & MASK])
    im.put(a[0], a[1] & ~MASK | target)
    return "L2 entry at %#x points to the table at %#x" % (a[0], target)


def others(im):
    """Where tables are that few images have: snapshots', bitmaps', LUKS."""
    out = []
    if im.snaps:
        out += [im.snap_at, im.u64(im.snap_at)]
    at = 72 if im.version < 3 else struct.unpack_from(">I", im.data, 100)[0]
    while True:
        kind, n = struct.unpack_from(">II", im.data, at)
        if kind == 0x0537BE77:
            out += [im.u64(at + 8), im.u64(at + 8) + im.cs]
        if kind == 0x23852875:
            dir_ = im.u64(at + 24)
            out += [dir_, im.u64(dir_), im.u64(im.u64(dir_)) & MASK]
        if not kind:
            return [o for o in out if o]
        at += 8 + (n + 7) // 8 * 8


def do_data_on_other(im, r):
    a = pick(r, im.l2_entries(plain))
    target = pick(r, others(im))
    im.put(a[0], a[1] & ~MASK | target)
    return "L2 entry at %#x points to %#x" % (a[0], target)


def do_packed_on_other(im, r):
    a = pick(r, im.l2_entries(plain))
    target = pick(r, others(im))
    im.put(a[0], PACKED | target)
    return "L2 entry at %#x is packed, at %#x" % (a[0], target)


def do_beyond(im, r):
    at, v = pick(r, im.l2_entries(plain))
    host = (im.clusters + r.choice([0, 1, 5, 1 << 20])) * im.cs
    im.put(at, v & ~MASK | host)
    return "L2 entry at %#x points to %#x" % (at, host)


def do_l2_beyond(im, r):
    at, v = pick(r, im.l1_entries())
    host = (im.clusters + r.choice([0, 1, 5])) * im.cs
    im.put(at, v & ~MASK | host)
    return "L1 entry at %#x points to %#x" % (at, host)


def do_unaligned(im, r):
    if im.cs == 512:
        sys.exit(3)
    at, v = pick(r, im.l2_entries(plain))
    im.put(at, v + 512)
    return "L2 entry at %#x is not aligned" % at


def do_unaligned_end(im, r):
    """What reaches behind the end of the file: its last cluster, if that is data."""
    if im.cs == 512:
        sys.exit(3)
    last = [(at, v) for at, v in im.l2_entries(plain)
            if (v & MASK) + im.cs == len(im.data)]
    if not last:
        sys.exit(3)
    at, v = last[0]
    im.put(at, v + 512)
    return "L2 entry at %#x reaches behind the end" % at


def do_unaligned_zero(im, r):
    if im.cs == 512 or im.ext or im.version < 3:
        sys.exit(3)
    at, v = pick(r, im.l2_entries(plain))
    im.put(at, v + 512 | ZERO)
    return "zero entry at %#x is not aligned" % at


def do_reserved(im, r):
    at, v = pick(r, im.l2_entries(plain))
    bit = r.choice([1, 3, 8, 56, 61])
    im.put(at, v | 1 << bit)
    return "L2 entry at %#x: bit %d" % (at, bit)


def do_reserved_l1(im, r):
    at, v = pick(r, im.l1_entries())
    bit = r.choice([0, 3, 8, 56, 62])
    im.put(at, v | 1 << bit)
    return "L1 entry at %#x: bit %d" % (at, bit)


def do_sub_both(im, r):
    if not im.ext:
        sys.exit(3)
    at, _ = pick(r, im.l2_entries(plain))
    im.put(at + 8, im.u64(at + 8) | 1 << 32 | 1)
    return "L2 entry at %#x: subcluster 0 is both" % at


def do_sub_none(im, r):
    if not im.ext:
        sys.exit(3)
    at, _ = pick(r, im.l2_entries(plain))
    im.put(at, 0)
    return "L2 entry at %#x: subclusters without cluster" % at


def do_sub_packed(im, r):
    if not im.ext:
        sys.exit(3)
    at, _ = pick(r, im.l2_entries(lambda v: v & PACKED))
    im.put(at + 8, 1 << r.randrange(64))
    return "compressed entry at %#x: subclusters" % at


def do_reft_zero(im, r):
    t = pick(r, [t for t in range(im.reft_clusters * im.cs // 8) if im.u64(im.reft + 8 * t)])
    im.put(im.reft + 8 * t, 0)
    return "refcount block %d is gone" % t


def do_reft_beyond(im, r):
    t = pick(r, [t for t in range(im.reft_clusters * im.cs // 8) if im.u64(im.reft + 8 * t)])
    im.put(im.reft + 8 * t, (im.clusters + 3) * im.cs)
    return "refcount block %d is behind the end" % t


def do_reft_reserved(im, r):
    t = pick(r, [t for t in range(im.reft_clusters * im.cs // 8) if im.u64(im.reft + 8 * t)])
    im.put(im.reft + 8 * t, im.u64(im.reft + 8 * t) | 1)
    return "refcount block %d: reserved bit" % t


def do_reft_double(im, r):
    at, v = pick(r, im.l2_entries(plain))
    im.put(im.reft + 8, v & MASK)
    return "refcount block 1 is the data cluster at %#x" % (v & MASK)


def do_drop_l2(im, r):
    at, _ = pick(r, im.l1_entries())
    im.put(at, 0)
    return "L1 entry at %#x is gone" % at


def do_l2_shared(im, r):
    """L2 tables that several L1 entries name."""
    if im.l1_size < 2:
        sys.exit(3)
    l2 = [v for _, v in im.l1_entries()]
    for _ in range(r.randint(1, 8)):
        im.put(im.l1 + 8 * r.randrange(im.l1_size), r.choice(l2))
    return "L1 entries name the same L2 tables"


def do_l2_shared_bad(im, r):
    """The same, and something is wrong in them."""
    kinds = ["unaligned_zero", "reserved", "copied_l2", "copied_packed", "beyond"]
    if im.l1_size < 2 or im.cs == 512 or im.ext or im.version < 3:
        sys.exit(3)
    out = [do_l2_shared(im, r)]
    for k in r.sample(kinds, 3):
        out.append(KINDS[k](im, r))
    return "; ".join(out)


def do_drop_data(im, r):
    for at, v in im.l2_entries()[:r.randint(1, 40)]:
        im.put(at, 0)
    return "some L2 entries are gone"


def do_dirty(im, r):
    if im.version < 3:
        sys.exit(3)
    im.put(72, im.incompat | 1)
    im.ref(pick(r, [c for c in range(im.clusters) if im.ref(c)]), 0)
    return "dirty, and a refcount is 0"


def do_corrupt(im, r):
    if im.version < 3:
        sys.exit(3)
    im.put(72, im.incompat | 2)
    return "marked as corrupt"


def do_snap_l1(im, r):
    if not im.snaps:
        sys.exit(3)
    l1, = struct.unpack_from(">Q", im.data, im.snap_at)
    im.put(l1, 0)
    return "first L1 entry of snapshot 1 is gone"


def do_mixed(im, r):
    kinds = ["leak", "zero_ref", "copied_l2", "double", "drop_data", "beyond"]
    out = []
    for k in r.sample(kinds, 3):
        out.append(KINDS[k](im, r))
        im.f.flush()
        im.f.seek(0)
        im.data = im.f.read()
    return "; ".join(out)


KINDS = {n[3:]: f for n, f in sorted(globals().items()) if n.startswith("do_")}

if __name__ == "__main__":
    if sys.argv[1] == "list":
        print(*KINDS)
        sys.exit()
    print(KINDS[sys.argv[2]](Image(sys.argv[1]), random.Random(int(sys.argv[3]))))
