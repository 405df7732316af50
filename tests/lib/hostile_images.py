#!/usr/bin/env python3
"""Makes images that nobody should trust from good ones, by poking bytes.

    hostile_images.py DIR

DIR has the good images that hostile-images.sh makes.  For each bad one a line, its
fields parted by tabs:

    NAME  SPEC  FILES  OUTCOME  WORDS  KEEP  FIXED

OUTCOME is
    refuse   it is not opened, with a message that has WORDS (a regular expression)
    ro       it is opened read-only alone; else as refuse
    ro-bad   the same, and something cannot be read
    runs     it may be opened or refused; whatever is asked of it then is answered
    errors   it runs, and something cannot be read, with a message
    corrupt  it runs, and when it has been used it is marked as corrupt
    good     it is opened, and nothing fails
KEEP: OFFSET+LENGTH of bytes of the file that no guest may change, or "-"
(of the image's own, where it points to: the first entry of each table).
FIXED: the same, of bytes that no repair may change either.
"""
import hashlib
import os
import struct
import sys
import zlib

OFF = 0x00fffffffffffe00


class Image:
    """A copy of a good image, and where its parts are."""

    def __init__(self, base):
        self.b = bytearray(open(os.path.join(DIR, base), 'rb').read())
        self.keep = []

    def put(self, at, fmt, *v):
        need = at + struct.calcsize(fmt)
        if need > len(self.b):
            self.b += bytes(need - len(self.b))
        struct.pack_into(fmt, self.b, at, *v)

    def get(self, at, fmt):
        return struct.unpack_from(fmt, self.b, at)[0]

    def q(self, at):
        return self.get(at, '>Q')

    # qcow2
    @property
    def l1(self): return self.q(40)
    @property
    def l2(self): return self.q(self.l1) & OFF
    @property
    def reft(self): return self.q(48)
    @property
    def refb(self): return self.q(self.reft)
    @property
    def cs(self): return 1 << self.get(20, '>I')

    def entry(self, used=True):
        """Place of the first L2 entry that maps a cluster (or none)."""
        for i in range(0, self.cs, 8):
            v = self.q(self.l2 + i)
            if (v & OFF != 0 and not v & 1 << 62) == used:
                return self.l2 + i
        raise SystemExit('no such entry')

    def packed(self):
        for i in range(0, self.cs, 8):
            if self.q(self.l2 + i) & 1 << 62:
                return self.l2 + i
        raise SystemExit('nothing packed')

    def count(self, off, v):
        self.put(self.refb + 2 * (off // self.cs), '>H', v)

    def ext(self, kind):
        """Place of an extension, or of the end of them."""
        at = self.get(100, '>I') if self.get(4, '>I') == 3 else 72
        while True:
            k, n = struct.unpack_from('>II', self.b, at)
            if k == kind or k == 0:
                return at
            at += 8 + (n + 7) // 8 * 8

    def add_ext(self, kind, data):
        at = self.ext(0)
        end = at + 8 + (len(data) + 7) // 8 * 8
        self.put(at, '>II', kind, len(data))
        self.b[at + 8:at + 8 + len(data)] = data
        self.put(end, '>II', 0, 0)


CASES = []


def case(name, base, outcome, words='.', poke=None, keep=(), spec=None, files=(), fixed=()):
    i = Image(base)
    i.fmt = base.split('.')[-1]
    if poke:
        poke(i)
    path = os.path.join(DIR, 'bad-' + name)
    open(path, 'wb').write(i.b)
    def places(what):
        return ' '.join('%d+%d' % (x(i) if callable(x) else x) for x in what) or '-'
    fixed = tuple(fixed)
    spec = (spec or '%s:@' % i.fmt).replace('@', path)
    fs = ' '.join([path] + [os.path.join(DIR, f) for f in files])
    print('\t'.join([name, spec, fs, outcome, words, places(tuple(keep) + fixed),
                     places(fixed)]))


def put(at, fmt, *v):
    return lambda i: i.put(at, fmt, *v)


def both(*fns):
    def f(i):
        for fn in fns:
            fn(i)
    return f


def header(i): return (0, 36)
def l1(i): return (40, 8)           # where it is; what it says may change
def reft(i): return (i.reft, 8)


META = (header, l1, reft)
BIG = (1 << 63) - 65536


def qcow2_open():
    c = case
    c('magic', 'a.qcow2', 'refuse', 'no qcow2|not a qcow2', put(0, '>I', 0x514649fc))
    for v in (0, 1, 4, 0xffffffff):
        c('version-%d' % v, 'a.qcow2', 'refuse', 'version|older', put(4, '>I', v))
    for v in (0, 8, 22, 33, 64, 0xffffffff):
        c('cluster-bits-%d' % v, 'a.qcow2', 'refuse', 'cluster', put(20, '>I', v))
    for v in (0, 72, 96, 108, 65544, 0xfffffff8, 0xffffffff):
        c('header-length-%d' % v, 'a.qcow2', 'refuse', 'header', put(100, '>I', v))
    c('incompatible-5', 'a.qcow2', 'refuse', 'feature', put(72, '>Q', 1 << 5))
    c('incompatible-63', 'a.qcow2', 'refuse', 'feature', put(72, '>Q', 1 << 63))

    def named(i):
        at = i.ext(0x6803f857)
        i.put(72, '>Q', 1 << 7)
        i.b[at + 8:at + 10] = bytes((0, 7))
        i.b[at + 10:at + 10 + 46] = b'dragons'.ljust(46, b'\0')
    c('incompatible-named', 'a.qcow2', 'refuse', 'dragons', named)

    def unnamed(i):
        named(i)
        i.put(i.ext(0x6803f857) + 4, '>I', 0xffffffff)
    c('incompatible-names-too-long', 'a.qcow2', 'refuse', 'feature|extension', unnamed)
    for n, (off, size) in {
            'behind': (65536, 8), 'far': (1 << 63, 8), 'in-header': (40, 8),
            'across': (65530, 8), 'long': (1024, 1024), 'huge': (512, 0xffffffff),
            'wraps': ((1 << 64) - 4, 8)}.items():
        c('backing-name-' + n, 'a.qcow2', 'refuse', 'backing',
          both(put(8, '>Q', off), put(16, '>I', size)))
    c('backing-name-zero-byte', 'child.qcow2', 'refuse', 'zero byte|backing',
      lambda i: i.b.__setitem__(i.q(8) + 2, 0), files=('base.raw',))
    for v in (0xffffffff, 0x7fffffff, 65536, 0xfffffff9):
        c('extension-%d' % v, 'a.qcow2', 'refuse', 'extension',
          lambda i, v=v: i.put(i.ext(0x6803f857), '>II', 0x12345678, v))

    def unterminated(i):
        at = i.ext(0)
        i.put(at, '>II', 0x12345678, 65536 - at - 8)
    c('extensions-without-end', 'a.qcow2', 'good', '.', unterminated)
    c('backing-format-long', 'child.qcow2', 'refuse', 'format|extension',
      lambda i: i.put(i.ext(0xe2792aca) + 4, '>I', 300), files=('base.raw',))
    c('extension-bitmaps-short', 'a.qcow2', 'refuse', 'extension|bitmap',
      lambda i: i.add_ext(0x23852875, bytes(23)))
    c('extension-crypto-short', 'a.qcow2', 'refuse', 'extension|encrypt',
      lambda i: i.add_ext(0x0537be77, bytes(8)))
    for v in (7, 64, 255, 0xffffffff):
        c('refcount-order-%d' % v, 'a.qcow2', 'refuse', 'refcount', put(96, '>I', v))
    for n, v in {'unaligned': 65536 + 512, 'far': 1 << 62, 'negative': 1 << 63,
                 'wraps': (1 << 64) - 65536, 'behind': 1 << 30}.items():
        c('reftable-' + n, 'a.qcow2', 'refuse', 'refcount', put(48, '>Q', v))
        c('l1-' + n, 'a.qcow2', 'refuse', 'L1', put(40, '>Q', v))
        c('snapshots-' + n, 'snap.qcow2', 'refuse', 'snapshot', put(64, '>Q', v))
    for v in (0, 129, 0x7fffffff, 0xffffffff):
        c('reftable-clusters-%d' % v, 'a.qcow2', 'refuse', 'refcount', put(56, '>I', v))
    for v in (0, 4 * 1024 * 1024 + 1, 0x20000000, 0xffffffff):
        c('l1-size-%d' % v, 'a.qcow2', 'refuse', 'L1', put(36, '>I', v))
    c('l1-too-short-for-disk', 'a.qcow2', 'refuse', 'L1|size', put(24, '>Q', 1 << 40))
    for v in (1 << 63, (1 << 64) - 1, (1 << 63) - 1):
        c('size-%x' % v, 'a.qcow2', 'refuse', '.', put(24, '>Q', v))
    # An L1 table may have more entries than the disk needs (for the state of a machine),
    # never fewer.
    c('l1-one-short', 'wide.qcow2', 'refuse', 'L1', put(36, '>I', 2))
    c('l1-one-more', 'wide.qcow2', 'good', '.', put(36, '>I', 4), META)
    c('l1-for-vm-state', 'wide.qcow2', 'good', '.', put(36, '>I', 8192), META)
    c('l1-for-vm-state-behind', 'wide.qcow2', 'refuse', 'L1', put(36, '>I', 1 << 22))
    c('l1-for-vm-state-most', 'a.qcow2', 'refuse', 'L1',
      both(put(36, '>I', 1 << 22), put(24, '>Q', (1 << 63) - 1)))
    c('size-0', 'a.qcow2', 'runs', '.', put(24, '>Q', 0))
    c('size-odd', 'a.qcow2', 'runs', '.', put(24, '>Q', 100001))
    for v in (65537, 0xffffffff):
        c('snapshots-%d' % v, 'snap.qcow2', 'refuse', 'snapshot', put(60, '>I', v))
    c('snapshots-more-than-there-are', 'snap.qcow2', 'runs', '.', put(60, '>I', 60000))

    def snap(at, fmt, v):
        return lambda i: i.put(i.q(64) + at, fmt, v)
    c('snapshot-extra', 'snap.qcow2', 'runs', '.', snap(36, '>I', 0xffffffff), META)
    c('snapshot-extra-1025', 'snap.qcow2', 'runs', '.', snap(36, '>I', 1025), META)
    c('snapshot-id', 'snap.qcow2', 'runs', '.', snap(12, '>H', 0xffff), META)
    c('snapshot-name', 'snap.qcow2', 'runs', '.', snap(14, '>H', 0xffff), META)
    for n, at, fmt, v in [('vm-state', 40, '>Q', 1 << 63), ('vm-state-32', 32, '>I', 0xffffffff),
                          ('disk-0', 48, '>Q', 0), ('disk-negative', 48, '>Q', 1 << 63),
                          ('disk-most', 48, '>Q', (1 << 64) - 1), ('disk-2', 48, '>Q', 1 << 61),
                          ('disk-other', 48, '>Q', 1 << 40), ('disk-odd', 48, '>Q', 100001),
                          ('l1-0', 8, '>I', 0), ('l1-many', 8, '>I', 8192)]:
        c('snapshot-says-' + n, 'snap.qcow2', 'good', '.', snap(at, fmt, v), META)
    c('snapshot-says-l1-2', 'snap.qcow2', 'good', '.',
      both(snap(8, '>I', 0), snap(0, '>Q', 0)), META)
    for v in (1 << 56, 1 << 60):
        c('snapshot-l1-%x' % v, 'snap.qcow2', 'runs', '.', snap(0, '>Q', v), META)
        c('snapshots-at-%x' % v, 'snap.qcow2', 'refuse', 'snapshot', put(64, '>Q', v))
    for v in (0x7fffffff, 0xffffffff, 0x20000000):
        c('snapshot-l1-size-%d' % v, 'snap.qcow2', 'runs', '.', snap(8, '>I', v), META)
    for n, v in {'unaligned': 65536 + 512, 'far': 1 << 62, 'negative': 1 << 63}.items():
        c('snapshot-l1-' + n, 'snap.qcow2', 'runs', '.', snap(0, '>Q', v), META)
    # The same, where the counts have to be made anew and so all is walked.
    for n, p in {'extra': snap(36, '>I', 0xffffffff), 'l1-size': snap(8, '>I', 0xffffffff),
                 'l1-far': snap(0, '>Q', 1 << 62), 'l1-unaligned': snap(0, '>Q', 66048),
                 'l1-is-header': snap(0, '>Q', 0)}.items():
        c('dirty-snapshot-' + n, 'snap.qcow2', 'runs', '.', both(put(72, '>Q', 1), p), META)
    c('compression-type-alone', 'a.qcow2', 'refuse', 'compression', put(104, '>B', 1))
    c('compression-bit-alone', 'a.qcow2', 'refuse', 'compression', put(72, '>Q', 8))
    c('compression-unknown', 'a.qcow2', 'refuse', 'compression',
      both(put(72, '>Q', 8), put(104, '>B', 2)))
    c('encryption-3', 'a.qcow2', 'refuse', 'encrypt', put(32, '>I', 3))
    c('encryption-aes-with', 'a.qcow2', 'refuse', 'LUKS|encrypt', both(
        put(32, '>I', 1), lambda i: i.add_ext(0x0537be77, struct.pack('>QQ', 65536, 65536))))
    c('encryption-luks-without', 'a.qcow2', 'refuse', 'LUKS|encrypt', put(32, '>I', 2))
    c('encryption-none-with', 'a.qcow2', 'refuse', 'LUKS|encrypt',
      lambda i: i.add_ext(0x0537be77, struct.pack('>QQ', 65536, 65536)))
    for n, (o, l) in {'unaligned': (66048, 4096), 'far': (1 << 62, 4096),
                      'long': (65536, 1 << 62), 'wraps': (65536, (1 << 64) - 65536)}.items():
        c('encryption-header-' + n, 'a.qcow2', 'refuse', 'LUKS|encrypt',
          both(put(32, '>I', 2),
               lambda i, o=o, l=l: i.add_ext(0x0537be77, struct.pack('>QQ', o, l))))
    c('bitmaps-bit-alone', 'a.qcow2', 'refuse', 'bitmap', put(88, '>Q', 1))
    for n, v in {'none': (0, 65536, 65536), 'empty': (1, 0, 65536),
                 'long': (1, 1 << 40, 65536), 'far': (1, 64, 1 << 62),
                 'many': (0xffffffff, 64, 65536), 'unaligned': (1, 64, 66048)}.items():
        c('bitmaps-' + n, 'a.qcow2', 'refuse', 'bitmap|overlap|same place',
          both(put(88, '>Q', 1), lambda i, v=v: i.add_ext(
              0x23852875, struct.pack('>IIQQ', v[0], 0, v[1], v[2]))))
    c('raw-data-without-file', 'a.qcow2', 'refuse', 'data', put(88, '>Q', 2))
    c('data-file-without-name', 'a.qcow2', 'refuse', 'data', put(72, '>Q', 4))

    def backed(i):
        i.put(8, '>QI', 60000, 8)
        i.b[60000:60008] = b'base.raw'
    c('raw-data-with-backing', 'data.qcow2', 'refuse', 'backing', both(put(88, '>Q', 2), backed),
      files=('data.raw', 'base.raw'))
    c('overlap-l1-header', 'a.qcow2', 'refuse', '.', put(40, '>Q', 0))
    c('overlap-reftable-header', 'a.qcow2', 'refuse', '.', put(48, '>Q', 0))
    c('overlap-l1-reftable', 'a.qcow2', 'refuse', '.', lambda i: i.put(40, '>Q', i.reft))
    over = 'over each other'
    c('overlap-snapshots-l1', 'snap.qcow2', 'refuse', over, lambda i: i.put(64, '>Q', i.l1))
    c('overlap-snapshots-reftable', 'snap.qcow2', 'refuse', over,
      lambda i: i.put(64, '>Q', i.reft))
    c('overlap-bitmaps-l1', 'a.qcow2', 'refuse', over, both(put(88, '>Q', 1), lambda i: i.add_ext(
        0x23852875, struct.pack('>IIQQ', 1, 0, 64, i.l1))))
    c('overlap-encryption-l1', 'a.qcow2', 'refuse', over, both(
        put(32, '>I', 2), lambda i: i.add_ext(0x0537be77, struct.pack('>QQ', i.l1, 4096))))
    for n in (0, 1, 71, 72, 103, 104, 111, 512):
        c('short-%d' % n, 'a.qcow2', 'refuse', '.', lambda i, n=n: i.b.__delitem__(slice(n, None)))
    c('marked-corrupt', 'a.qcow2', 'ro', 'corrupt|damaged', put(72, '>Q', 2))


def qcow2_run():
    c = case
    refb = lambda i: (i.refb, 512)
    l2 = lambda i: (i.l2, 512)
    part = META + (refb,)
    spots = {'header': lambda i: 0, 'l1': lambda i: i.l1, 'reftable': lambda i: i.reft,
             'refblock': lambda i: i.refb, 'l2': lambda i: i.l2,
             'unaligned': lambda i: i.l2 + 512, 'far': lambda i: 1 << 40,
             'behind': lambda i: (len(i.b) + 65535) // 65536 * 65536 + 65536,
             'highest': lambda i: OFF & ~0xffff}
    cp = 1 << 63
    for n, f in spots.items():
        if n not in ('l2', 'header'):
            c('l1-entry-' + n, 'a.qcow2', 'corrupt', '.',
              lambda i, f=f: i.put(i.l1, '>Q', f(i) | cp), META)
        if n not in ('refblock', 'header'):
            c('reftable-entry-' + n, 'a.qcow2', 'runs', '.',
              lambda i, f=f: i.put(i.reft, '>Q', f(i)), (header, l1, l2))
        if n != 'header':
            c('l2-entry-' + n, 'a.qcow2', 'runs' if n in ('far', 'behind', 'highest') else
              'corrupt', '.',
              lambda i, f=f: i.put(i.entry(), '>Q', f(i) | cp), META)
            c('l2-entry-not-copied-' + n, 'a.qcow2', 'runs', '.',
              lambda i, f=f: i.put(i.entry(), '>Q', f(i)), META)
            c('zero-entry-' + n, 'a.qcow2', 'runs', '.',
              lambda i, f=f: i.put(i.entry(), '>Q', f(i) | cp | 1), META)
    c('l2-entry-copied-alone', 'a.qcow2', 'runs', '.',
      lambda i: i.put(i.entry(), '>Q', cp), META)
    for bit in (1, 8, 56, 61):
        c('l2-entry-bit-%d' % bit, 'a.qcow2', 'runs', '.',
          lambda i, b=bit: i.put(i.entry(), '>Q', i.q(i.entry()) | 1 << b), META)
    for bit in (0, 5, 8, 56, 62):
        c('l1-entry-bit-%d' % bit, 'a.qcow2', 'runs', '.',
          lambda i, b=bit: i.put(i.l1, '>Q', i.q(i.l1) | 1 << b), META)
    c('reftable-entry-bit-1', 'a.qcow2', 'runs', '.',
      lambda i: i.put(i.reft, '>Q', i.refb | 1), META)
    c('reftable-entry-bit-63', 'a.qcow2', 'runs', '.',
      lambda i: i.put(i.reft, '>Q', i.refb | cp), META)
    # More than the 56 bits of a place.
    for v in (1 << 56, 1 << 60, 1 << 62, cp):
        c('reftable-entry-%x' % v, 'a.qcow2', 'ro', 'refcount', lambda i, v=v: i.put(
            i.reft, '>Q', v), META)
        c('l1-entry-%x' % v, 'a.qcow2', 'runs', '.', lambda i, v=v: i.put(
            i.l1, '>Q', i.l2 | v), META)
    for v in (1 << 56, 1 << 60, (1 << 61) - 512):
        c('packed-at-%x' % v, 'tiny.qcow2', 'corrupt', '.', lambda i, v=v: i.put(
            i.packed(), '>Q', 1 << 62 | v), META)
    c('v2-zero-bit', 'v2.qcow2', 'corrupt-v2', '.',
      lambda i: i.put(i.entry(), '>Q', i.q(i.entry()) | 1), (l1, reft))
    # Counts that lie: what is in use looks free.
    c('counts-all-0', 'a.qcow2', 'runs', '.',
      lambda i: i.b.__setitem__(slice(i.refb, i.refb + 512), bytes(512)), META)
    for n, f in spots.items():
        if n in ('header', 'l1', 'reftable', 'refblock', 'l2'):
            c('count-0-of-' + n, 'a.qcow2', 'runs', '.', lambda i, f=f: i.count(f(i), 0),
              META)
    c('count-0-of-data', 'a.qcow2', 'runs', '.',
      lambda i: i.count(i.q(i.entry()) & OFF, 0), META)
    c('count-highest-of-data', 'a.qcow2', 'runs', '.',
      lambda i: i.count(i.q(i.entry()) & OFF, 65535), META)
    c('count-highest-everywhere', 'a.qcow2', 'runs', '.',
      lambda i: i.b.__setitem__(slice(i.refb, i.refb + 65536), b'\xff' * 65536), META)
    c('no-refblock', 'a.qcow2', 'runs', '.', lambda i: i.put(i.reft, '>Q', 0), (header, l1))
    c('two-refblocks-in-one', 'a.qcow2', 'runs', '.',
      lambda i: i.put(i.reft + 8, '>Q', i.refb), META)
    c('two-l1-entries-one-l2', 'wide.qcow2', 'runs', '.',
      lambda i: i.put(i.l1 + 8, '>Q', i.q(i.l1)), META)

    # Packed clusters.
    x = 62 - 8

    def packed(off, sectors):
        return lambda i: i.put(i.packed(), '>Q', 1 << 62 | off(i) | sectors << x)
    for n, off in {'header': lambda i: 0, 'l1': lambda i: i.l1, 'far': lambda i: 1 << 40,
                   'highest': lambda i: (1 << x) - 1, 'end': lambda i: len(i.b) - 7}.items():
        c('packed-at-' + n, 'packed.qcow2', 'runs', '.', packed(off, 3), META)
        c('packed-long-at-' + n, 'packed.qcow2', 'runs', '.', packed(off, 255), META)

    def stream(i, data):
        at = i.q(i.packed()) & (1 << x) - 1
        i.b[at:at + len(data)] = data

    def deflate(n):
        z = zlib.compressobj(9, zlib.DEFLATED, -12)
        return z.compress(bytes(n)) + z.flush()
    empty = struct.pack('<IBBBBB', 0xfd2fb528, 0x20, 0, 1, 0, 0)    # a frame of no bytes
    for n, b in ('', 'packed.qcow2'), ('zstd-', 'zstd.qcow2'):
        c(n + 'packed-rubbish', b, 'errors', '.', lambda i: stream(i, b'\xa5' * 40), META)
        c(n + 'packed-zeroes', b, 'errors', '.', lambda i: stream(i, bytes(40)), META)
    for n in (0, 1, 512, 65535):
        c('packed-short-%d' % n, 'packed.qcow2', 'errors', '.',
          lambda i, n=n: stream(i, deflate(n)), META)
    c('packed-bomb', 'packed.qcow2', 'runs', '.', both(
        packed(lambda i: i.q(i.packed()) & (1 << x) - 1, 200),
        lambda i: stream(i, deflate(1 << 24))), META)
    c('zstd-packed-empty', 'zstd.qcow2', 'errors', '.', lambda i: stream(i, empty), META)
    c('zstd-packed-many-empty', 'zstd.qcow2', 'errors', '.', lambda i: stream(i, empty * 50), META)
    c('zstd-packed-as-deflate', 'zstd.qcow2', 'errors', '.', both(
        put(72, '>Q', 0), put(104, '>B', 0)), META)
    c('packed-copied', 'packed.qcow2', 'runs', '.',
      lambda i: i.put(i.packed(), '>Q', i.q(i.packed()) | cp), META)
    c('packed-count-0', 'packed.qcow2', 'runs', '.',
      lambda i: i.count(i.q(i.packed()) & (1 << x) - 1, 0), META)

    # Subclusters.
    for n, v in {'zero-and-data': 0x0000000100000001, 'all-both': (1 << 64) - 1}.items():
        c('sub-' + n, 'ext.qcow2', 'corrupt', '.',
          lambda i, v=v: i.put(i.l2 + 8, '>Q', v), META)
    c('sub-data-nowhere', 'ext.qcow2', 'corrupt', '.',
      lambda i: i.put(i.l2, '>QQ', 0, 1), META)
    c('sub-packed', 'ext.qcow2', 'corrupt', '.',
      lambda i: i.put(i.l2, '>QQ', 1 << 62 | 65536, 1), META)
    c('sub-small-clusters', 'small.qcow2', 'refuse', 'extended', put(72, '>Q', 16))

    # Snapshots: their tables are not the guest's.
    def snap_l2(i):
        return i.q(i.q(i.q(64))) & OFF
    c('l2-entry-snapshot-table', 'snap.qcow2', 'runs', '.',
      lambda i: i.put(i.entry(), '>Q', i.q(64) | cp), META + ((lambda i: (i.q(64), 64)),))
    c('l2-entry-snapshot-l1', 'snap.qcow2', 'runs', '.',
      lambda i: i.put(i.entry(), '>Q', i.q(i.q(64)) | cp),
      META + ((lambda i: (i.q(i.q(64)), 8)),))
    c('l2-entry-snapshot-l2', 'snap.qcow2', 'runs', '.',
      lambda i: i.put(i.entry(), '>Q', snap_l2(i) | cp), META)

    # Nor are those of bitmaps, which may lie themselves.
    def dir_(i):
        return i.q(i.ext(0x23852875) + 24)

    def map_(i):
        return i.q(dir_(i))
    c('l2-entry-bitmap-directory', 'bitmap.qcow2', 'corrupt', '.',
      lambda i: i.put(i.entry(), '>Q', dir_(i) | cp), META + ((lambda i: (dir_(i), 12)),))
    c('l2-entry-bitmap-table', 'bitmap.qcow2', 'corrupt', '.',
      lambda i: i.put(i.entry(), '>Q', map_(i) | cp), META + ((lambda i: (map_(i), 8)),))
    for n, at, fmt, v in [('name', 18, '>H', 0xffff), ('extra', 20, '>I', 0xffffffff),
                          ('table-far', 0, '>Q', 1 << 62), ('table-unaligned', 0, '>Q', 66048),
                          ('table-long', 8, '>I', 0xffffffff)]:
        c('bitmap-' + n, 'bitmap.qcow2', 'good', '.',
          lambda i, at=at, fmt=fmt, v=v: i.put(dir_(i) + at, fmt, v), META)
    # The bits themselves.
    def bits(i):
        return i.q(map_(i)) & OFF
    data = (lambda i: (bits(i), 512),)
    both_ = data + ((lambda i: (map_(i), 8)),)
    c('bits-good', 'bits.qcow2', 'good', '.', None, META, fixed=both_)
    c('l2-entry-bits', 'bits.qcow2', 'corrupt', 'damaged',
      lambda i: i.put(i.entry(), '>Q', bits(i) | cp), META, fixed=both_)
    c('l2-entry-not-copied-bits', 'bits.qcow2', 'corrupt', '.',
      lambda i: i.put(i.entry(), '>Q', bits(i)), META, fixed=both_)
    c('l2-entry-bits-table', 'bits.qcow2', 'corrupt', '.',
      lambda i: i.put(i.entry(), '>Q', map_(i) | cp), META, fixed=both_)
    c('packed-entry-bits', 'bits.qcow2', 'corrupt', '.',
      lambda i: i.put(i.entry(), '>Q', 1 << 62 | bits(i)), META, fixed=both_)
    c('l1-entry-bits', 'bits.qcow2', 'runs', '.',
      lambda i: i.put(i.l1, '>Q', bits(i) | cp), META, fixed=both_)
    c('l1-entry-bits-table', 'bits.qcow2', 'runs', '.',
      lambda i: i.put(i.l1, '>Q', map_(i) | cp), META, fixed=both_)
    c('count-0-of-bits', 'bits.qcow2', 'good', '.', lambda i: i.count(bits(i), 0), META,
      fixed=both_)
    c('dirty-l2-entry-bits', 'bits.qcow2', 'corrupt', '.', both(
        put(72, '>Q', 1), lambda i: i.put(i.entry(), '>Q', bits(i) | cp)), META, fixed=both_)
    c('dirty-count-0-of-bits', 'bits.qcow2', 'good', '.', both(
        put(72, '>Q', 1), lambda i: i.count(bits(i), 0)), META, fixed=both_)
    for n, v in {'far': 1 << 50, 'highest': OFF & ~0xffff, 'unaligned': 66048, 'low-bits': 65536 | 2,
                 'high-bits': 65536 | 1 << 62}.items():
        c('bits-' + n, 'bits.qcow2', 'good', '.',
          lambda i, v=v: i.put(map_(i), '>Q', v), META)
        c('dirty-bits-' + n, 'bits.qcow2', 'ro', '.', both(
            put(72, '>Q', 1), lambda i, v=v: i.put(map_(i), '>Q', v)), META)
    c('bits-are-l1', 'bits.qcow2', 'ro', 'same place',
      lambda i: i.put(map_(i), '>Q', i.l1), META)
    c('bits-are-l2', 'bits.qcow2', 'ro', 'same place',
      lambda i: i.put(map_(i), '>Q', i.l2), META)
    c('bits-are-data', 'bits.qcow2', 'runs', '.',
      lambda i: i.put(map_(i), '>Q', i.q(i.entry()) & OFF), META)
    c('bitmap-table-is-l1', 'bitmap.qcow2', 'ro', 'same place',
      lambda i: i.put(dir_(i), '>Q', i.l1), META)
    c('dirty-bitmap-table-far', 'bitmap.qcow2', 'ro', 'bitmap', both(
        put(72, '>Q', 1), lambda i: i.put(dir_(i), '>Q', 1 << 62)), META)

    # An image that says that its counts are old: all is walked when it is opened.
    c('dirty', 'a.qcow2', 'good', '.', put(72, '>Q', 1), (header, l1))
    c('dirty-no-counts', 'a.qcow2', 'good', '.',
      both(put(72, '>Q', 1),
           lambda i: i.b.__setitem__(slice(i.refb, i.refb + 512), bytes(512))))
    for n, f in spots.items():
        if n != 'header':
            c('dirty-l2-entry-' + n, 'a.qcow2', 'runs', '.', both(
                put(72, '>Q', 1), lambda i, f=f: i.put(i.entry(), '>Q', f(i) | cp)))
            c('dirty-l1-entry-' + n, 'a.qcow2', 'runs', '.', both(
                put(72, '>Q', 1), lambda i, f=f: i.put(i.l1, '>Q', f(i) | cp)))
    c('dirty-vast', 'a.qcow2', 'runs', '.', both(
        put(72, '>Q', 1), put(24, '>Q', 1 << 50), put(36, '>I', 4 * 1024 * 1024)))
    c('dirty-reftable-far', 'a.qcow2', 'runs', '.',
      both(put(72, '>Q', 1), put(48, '>Q', 1 << 50)))
    c('vast', 'a.qcow2', 'runs', '.', both(
        put(24, '>Q', 1 << 50), put(36, '>I', 2 * 1024 * 1024)))

    def data_file(i):
        i.put(72, '>Q', i.q(72) | 4)
        i.add_ext(0x44415441, b'data.raw')
    c('data-file-other-offset', 'data.qcow2', 'corrupt', '.',
      lambda i: i.put(i.entry(), '>Q', i.q(i.entry()) + 65536), META, files=('data.raw',))
    c('data-file-packed', 'data.qcow2', 'corrupt', '.',
      lambda i: i.put(i.entry(), '>Q', 1 << 62 | 65536), META, files=('data.raw',))
    c('data-file-not-there', 'data.qcow2', 'refuse', 'open|data', None)
    c('data-file-is-the-image', 'a.qcow2', 'refuse', 'same file|itself|data', lambda i: (
        data_file(i), i.put(i.ext(0x44415441) + 4, '>I', 26),
        i.b.__setitem__(slice(i.ext(0x44415441) + 8, i.ext(0x44415441) + 34),
                        b'bad-data-file-is-the-image'),
        i.put(i.ext(0x44415441) + 8 + 32, '>II', 0, 0)))


def qcow2_luks():
    def at(i):
        return i.q(i.ext(0x0537be77) + 8)

    def c(name, outcome, words, off, fmt, *v):
        case('luks-' + name, 'luks.qcow2', outcome, words,
             lambda i: i.put(at(i) + off, fmt, *v), META)
    case('luks-good', 'luks.qcow2', 'good')
    head = (lambda i: (at(i), i.q(i.ext(0x0537be77) + 16)),)
    for n, v in {'': 1 << 63, '-not-copied': 0, '-zero': 1 << 63 | 1, '-packed': 1 << 62}.items():
        case('luks-l2-entry-header' + n, 'luks.qcow2', 'corrupt', '.',
             lambda i, v=v: i.put(i.entry(), '>Q', at(i) | v), META, fixed=head)
    # What a repair would put right in a table must not be put right there.
    for n in range(0, 4):
        case('luks-l1-entry-header-%d' % n, 'luks.qcow2', 'runs', '.',
             lambda i, n=n: i.put(i.l1, '>Q', at(i) + n * i.cs | 1 << 63), META, fixed=head)
    case('luks-l1-entry-header-dirty', 'luks.qcow2', 'runs', '.', both(
        put(72, '>Q', 1), lambda i: i.put(i.l1, '>Q', at(i) + i.cs | 1 << 63)), META, fixed=head)
    case('luks-count-0-of-header', 'luks.qcow2', 'good', '.', lambda i: i.count(at(i), 0), META,
         fixed=head)
    case('luks-refblock-header', 'luks.qcow2', 'ro', 'same place',
         lambda i: i.put(i.reft, '>Q', at(i)), META, fixed=head)
    for n in (591, 592, 65536):
        case('luks-header-of-%d' % n, 'luks.qcow2', 'refuse', 'LUKS|header', lambda i, n=n: i.put(
            i.ext(0x0537be77) + 16, '>Q', n))
    c('magic', 'refuse', 'LUKS', 0, '>I', 0)
    c('version-9', 'refuse', 'LUKS', 6, '>H', 9)
    c('cipher-endless', 'refuse', 'no end', 8, '32s', b'a' * 32)
    c('cipher-unknown', 'refuse', 'custard', 8, '32s', b'custard')
    c('key-bytes', 'refuse', 'bytes', 108, '>I', 0xffffffff)
    c('digest', 'refuse', 'passphrase|fits', 112, '>I', 0)
    c('iterations-0', 'refuse', 'iterations', 164, '>I', 0)
    c('slot-state', 'refuse', 'neither on nor off', 208, '>I', 7)
    c('slots-off', 'refuse', 'slot', 208, '>I', 0xdead)
    c('slot-iterations-0', 'refuse', 'iterations', 212, '>I', 0)
    c('slot-iterations-all', 'refuse', 'iterations', 212, '>I', 0xffffffff)
    c('slot-far', 'refuse', 'outside', 248, '>I', 0xffffffff)
    c('slot-in-header', 'refuse', 'outside', 248, '>I', 0)
    c('slot-over-slot', 'refuse', 'overlap', 296, '>I', 8)
    c('slot-stripes', 'refuse', 'stripes', 252, '>I', 0xffffffff)


def luks():
    """Whole volumes: version 1, and version 2 with its sums put right."""
    def c(name, outcome, words, off, fmt, *v):
        case('volume-' + name, 'v1.luks', outcome, words, lambda i: i.put(off, fmt, *v),
             spec='luks:@')
    case('volume-good', 'v1.luks', 'good', spec='luks:@')
    c('magic', 'refuse', 'LUKS', 0, '>I', 0)
    c('version-3', 'refuse', 'version', 6, '>H', 3)
    for v in (0, 1, 7):
        c('payload-%d' % v, 'refuse', '.', 104, '>I', v)
    c('payload-far', 'refuse', '.', 104, '>I', 0xffffffff)
    c('slot-far', 'refuse', 'outside', 248, '>I', 0xffffffff)
    c('slot-stripes', 'refuse', 'stripes', 252, '>I', 0xffffffff)
    for n in (0, 1, 591, 592, 4096):
        case('volume-short-%d' % n, 'v1.luks', 'refuse', '.',
             lambda i, n=n: i.b.__delitem__(slice(n, None)), spec='luks:@')

    if not os.path.exists(os.path.join(DIR, 'v2.luks')):
        return

    def v2(name, old, new, words='.', outcome='refuse', poke=None):
        def p(i):
            for at in 0, i.get(8, '>Q'):
                size = i.get(at + 8, '>Q')
                text = bytes(i.b[at + 4096:at + size]).rstrip(b'\0')
                if old not in text:
                    raise SystemExit('no %r in %r' % (old, text))
                i.b[at + 4096:at + size] = text.replace(old, new, 1).ljust(size - 4096, b'\0')
                if poke:
                    poke(i, at)
                i.b[at + 448:at + 512] = bytes(64)
                i.b[at + 448:at + 480] = hashlib.sha256(i.b[at:at + size]).digest()
        case('volume2-' + name, 'v2.luks', outcome, words, p, spec='luks:@')
    v2('good', b'{', b'{', outcome='good')
    v2('no-json', b'{', b'x')
    v2('deep', b'{', b'{"x":' + b'[' * 3000 + b']' * 3000 + b',')
    v2('no-segments', b'"segments"', b'"segmentz"')
    v2('segment-far', b'"offset":"524288"', b'"offset":"18446744073709547520"')
    v2('segment-in-header', b'"offset":"524288"', b'"offset":"4096"')
    v2('segment-odd', b'"offset":"524288"', b'"offset":"16777217"')
    v2('segment-negative', b'"offset":"524288"', b'"offset":"-4096"')
    v2('segment-wraps', b'"offset":"524288"', b'"offset":"99999999999999999999999"')
    v2('sector-size-0', b'"sector_size":512', b'"sector_size":0')
    v2('sector-size-3', b'"sector_size":512', b'"sector_size":513')
    v2('requirement', b'"config":{', b'"config":{"requirements":{"mandatory":["dragons"]},',
       'dragons|require')
    for n, v in ('0', 0), ('odd', 5000), ('far', 1 << 62):
        case('volume2-header-size-' + n, 'v2.luks', 'runs', '.', lambda i, v=v: (
            i.put(i.get(8, '>Q') + 8, '>Q', v), i.put(8, '>Q', v)), spec='luks:@')
    case('volume2-sums', 'v2.luks', 'refuse', '.', lambda i: (
        i.put(i.get(8, '>Q') + 448, '>Q', 0), i.put(448, '>Q', 0)), spec='luks:@')


def qcow():
    c = case
    for v in (0, 8, 17, 63, 255):
        c('v1-cluster-bits-%d' % v, 'a.qcow', 'refuse', 'cluster', put(32, '>B', v))
    for v in (0, 5, 14, 64, 255):
        c('v1-l2-bits-%d' % v, 'a.qcow', 'refuse', 'level 2', put(33, '>B', v))
    for v in (1 << 63, (1 << 64) - 1, (1 << 64) - 4096, 1 << 60):
        c('v1-size-%x' % v, 'a.qcow', 'refuse', '.', put(24, '>Q', v))
    for v in (0, 1):
        c('v1-size-%d' % v, 'a.qcow', 'runs', '.', put(24, '>Q', v))
    c('v1-encryption-2', 'a.qcow', 'refuse', 'encrypt', put(36, '>I', 2))
    c('v1-version-0', 'a.qcow', 'refuse', 'version|qcow', put(4, '>I', 0))
    for n, v in {'in-header': 0, 'in-header-40': 40, 'far': 1 << 62, 'negative': 1 << 63,
                 'wraps': (1 << 64) - 8}.items():
        c('v1-l1-' + n, 'a.qcow', 'refuse', 'level 1|header', put(40, '>Q', v))
    for n, (off, size) in {'long': (48, 1024), 'huge': (48, 0xffffffff),
                           'far': (1 << 63, 8), 'wraps': ((1 << 64) - 4, 8),
                           'in-header': (8, 8)}.items():
        c('v1-backing-name-' + n, 'a.qcow', 'refuse', 'backing',
          both(put(8, '>Q', off), put(16, '>I', size)))
    for n in (0, 4, 47, 48):
        c('v1-short-%d' % n, 'a.qcow', 'refuse' if n < 48 else 'runs', '.',
          lambda i, n=n: i.b.__delitem__(slice(n, None)))
    head = (0, 48)

    def table(i): return i.q(i.q(40))

    def used(i):
        for k in range(0, 4096, 8):
            if i.q(table(i) + k):
                return table(i) + k
        raise SystemExit('nothing used')
    tab = lambda i: (40, 8)
    for n, f in {'header': lambda i: 512 * 0 + 0x200 - 0x200 + 8, 'l1': lambda i: i.q(40),
                 'odd': lambda i: 4097, 'far': lambda i: 1 << 50, 'highest': lambda i: (1 << 63) - 512,
                 'end': lambda i: len(i.b) // 512 * 512 + 512}.items():
        c('v1-l1-entry-' + n, 'a.qcow', 'runs', '.', lambda i, f=f: i.put(i.q(40), '>Q', f(i)),
          (head,))
    for n, f in {'first': lambda i: 512, 'l2': table, 'odd': lambda i: 4097,
                 'far': lambda i: 1 << 50, 'highest': lambda i: (1 << 63) - 4096,
                 'self': lambda i: table(i) // 4096 * 4096}.items():
        c('v1-entry-' + n, 'a.qcow', 'runs', '.', lambda i, f=f: i.put(used(i), '>Q', f(i)),
          (head, tab))
    for n, (off, size) in {'none': (4096, 0), 'far': (1 << 50, 100), 'rubbish': (4096, 4095),
                           'header': (0, 512), 'end': (None, 4000)}.items():
        c('v1-packed-' + n, 'a.qcow', 'runs', '.', lambda i, o=off, s=size: i.put(
            used(i), '>Q', 1 << 63 | s << 51 | (len(i.b) - 3 if o is None else o)),
          (head, tab))


def vmdk():
    c = case
    head = (0, 512)
    for v in (0, 4, 0xffffffff):
        c('vmdk-version-%d' % v, 'a.vmdk', 'refuse', 'version', put(4, '<I', v))
    for v in (1 << 63, (1 << 64) - 1, 1 << 55, 1 << 41):
        c('vmdk-capacity-%x' % v, 'a.vmdk', 'refuse', '.', put(12, '<Q', v))
    c('vmdk-capacity-0', 'a.vmdk', 'refuse', '.', put(12, '<Q', 0))
    for v in (0, 3, 4, 129, 1 << 22, 1 << 32, 1 << 63):
        c('vmdk-grain-%d' % v, 'a.vmdk', 'refuse', 'grain', put(20, '<Q', v))
    for v in (0, 513, 0x80000000, 0xffffffff):
        c('vmdk-gtes-%d' % v, 'a.vmdk', 'refuse', 'table|entries', put(44, '<I', v))
    for n, v in {'0': 0, 'far': 1 << 40, 'negative': 1 << 63, 'end': (1 << 64) - 1,
                 'wraps': 1 << 55}.items():
        # The other directory will do, where the header can be meant so.
        c('vmdk-gd-' + n, 'a.vmdk', 'runs' if n in ('0', 'far') else 'refuse', '.',
          put(56, '<Q', v), (head,))
        c('vmdk-gds-' + n, 'a.vmdk', 'refuse', '.', both(put(56, '<Q', v), put(48, '<Q', v)))
        if n != '0':
            c('vmdk-rgd-' + n, 'a.vmdk', 'runs', '.', put(48, '<Q', v), (head,))
            c('vmdk-descriptor-' + n, 'a.vmdk', 'refuse', '.', put(28, '<Q', v))
            c('vmdk-descriptor-size-' + n, 'a.vmdk', 'refuse', '.', put(36, '<Q', v))
            c('vmdk-overhead-' + n, 'a.vmdk', 'runs', '.', put(64, '<Q', v), (head,))
    c('vmdk-descriptor-none', 'a.vmdk', 'refuse', '.', put(28, '<Q', 0))
    c('vmdk-newlines', 'a.vmdk', 'refuse', '.', put(73, '<I', 0x0a0a200a))
    c('vmdk-magic', 'a.vmdk', 'refuse', '.', put(0, '<I', 0))
    c('vmdk-packed-flags', 'a.vmdk', 'runs', '.', put(8, '<I', 0x30003), (head,))
    c('vmdk-packed-algorithm', 'a.vmdk', 'runs', '.', put(77, '<H', 9), (head,))
    for n in (0, 4, 79, 511, 512, 1024):
        c('vmdk-short-%d' % n, 'a.vmdk', 'refuse', '.',
          lambda i, n=n: i.b.__delitem__(slice(n, None)))

    def gd(i): return i.get(56, '<Q') * 512
    def rgd(i): return i.get(48, '<Q') * 512
    def gt(i): return i.get(gd(i), '<I') * 512
    def rgt(i): return i.get(rgd(i), '<I') * 512

    def used(i):
        return next(k for k in range(0, 2048, 4) if i.get(gt(i) + k, '<I'))

    def grain(f):
        # both places of the same entry: the first write must not move the second
        return lambda i: (lambda k: (i.put(gt(i) + k, '<I', f(i)),
                                     i.put(rgt(i) + k, '<I', f(i))))(used(i))
    keep = (head, lambda i: (gd(i), 4), lambda i: (rgd(i), 4))
    for n, f in {'zero-without-flag': lambda i: 1, 'descriptor': lambda i: 2,
                 'gd': lambda i: gd(i) // 512, 'gt': lambda i: gt(i) // 512,
                 'rgd': lambda i: rgd(i) // 512, 'far': lambda i: 0x7fffffff,
                 'highest': lambda i: 0xffffffff, 'odd': lambda i: 129 + 3,
                 'end': lambda i: len(i.b) // 512 + 128}.items():
        c('vmdk-grain-at-' + n, 'a.vmdk', 'runs', '.', grain(f), keep)
        c('vmdk-table-at-' + n, 'a.vmdk', 'runs', '.', lambda i, f=f: (
            lambda v: (i.put(gd(i), '<I', v), i.put(rgd(i), '<I', v)))(f(i)), (head,))

    # A directory that is not where the header says: what is there instead is no directory
    # to be put right.
    for n, at in ('rgd', 48), ('gd', 56):
        def table(i, at=at): return gt(i) if at == 48 else rgt(i)

        def second(i, table=table): return i.get(table(i) + 4, '<I') * 512 + 4096
        for n2, outcome, f, size in [('grain', 'good', second, 4), ('table', 'runs', table, 0),
                                     ('descriptor', 'runs', lambda i: 512, 21)]:
            c('vmdk-%s-in-%s' % (n, n2), 'a.vmdk', outcome, '.',
              lambda i, at=at, f=f: i.put(at, '<Q', f(i) // 512), (head,),
              fixed=((lambda i, f=f, size=size: (f(i), size)),) if size else ())

    def same(i):
        k = used(i)
        v = i.get(gt(i) + k, '<I')
        for t in (gt(i), rgt(i)):
            i.put(t + k + 4, '<I', v)
    c('vmdk-two-grains-one-place', 'a.vmdk', 'runs', '.', same, keep)

    good = ('# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n'
            'createType="monolithicFlat"\n')
    flat = 'RW 4096 FLAT "flat.raw" 0\n'

    def text(name, s, outcome='refuse', words='.', files=('flat.raw',)):
        def p(i):
            i.b[:] = s.encode('latin1') if isinstance(s, str) else s
        case('vmdk-text-' + name, 'a.vmdk', outcome, words, p, files=files)
    text('good', good + flat, 'good')
    text('no-extents', good, words='extent')
    text('no-type', good.replace('createType', 'x') + flat)
    text('type-unknown', good.replace('monolithicFlat', 'custard') + flat, words='custard|type')
    text('device', good.replace('monolithicFlat', 'fullDevice') +
         'RW 4096 FLAT "/dev/sda" 0\n')
    text('version-9', good.replace('version=1', 'version=9') + flat, 'runs')
    text('no-cid', good.replace('CID=12345678\n', '') + flat, 'runs')
    text('cid-rubbish', good.replace('CID=12345678', 'CID=zz') + flat, 'runs')
    text('many-extents', good + flat * 1025, words='extents|more than')
    text('sectors-huge', good + 'RW 18446744073709551615 FLAT "flat.raw" 0\n')
    text('sectors-sum', good + 'RW 9223372036854775807 FLAT "flat.raw" 0\n' * 3)
    text('sectors-negative', good + 'RW -1 FLAT "flat.raw" 0\n')
    text('sectors-0', good + 'RW 0 FLAT "flat.raw" 0\n', 'runs')
    text('sectors-more-than-file', good + 'RW 40960 FLAT "flat.raw" 0\n', 'runs')
    text('offset-huge', good + 'RW 4096 FLAT "flat.raw" 18446744073709551615\n')
    text('offset-behind', good + 'RW 4096 FLAT "flat.raw" 4611686018427387904\n', 'runs')
    text('quote-open', good + 'RW 4096 FLAT "flat.raw\n')
    text('name-empty', good + 'RW 4096 FLAT ""\n')
    text('name-up', good + 'RW 4096 FLAT "../flat.raw" 0\n')
    text('name-absolute', good + 'RW 4096 FLAT "/etc/passwd" 0\n')
    text('name-protocol', good + 'RW 4096 FLAT "nbd://localhost/x" 0\n')
    text('name-json', good + 'RW 4096 FLAT "json:{}" 0\n')
    text('name-itself', good + 'RW 1 FLAT "bad-vmdk-text-name-itself" 0\n')
    text('twice-the-same', good + flat * 2, 'runs')
    text('access-unknown', good + 'XX 4096 FLAT "flat.raw" 0\n', 'runs')
    text('kind-unknown', good + 'RW 4096 JELLY "flat.raw" 0\n')
    text('sparse-that-is-flat', good.replace('Flat', 'Sparse').replace('monolithic', 'twoGbMaxExtent')
         + 'RW 4096 SPARSE "flat.raw"\n')
    split = good.replace('monolithicFlat', 'twoGbMaxExtentSparse')
    text('line-longer-than-extent', split + 'RW 40960 SPARSE "a.vmdk"\n', 'runs', files=('a.vmdk',))
    text('line-shorter-than-extent', split + 'RW 8 SPARSE "a.vmdk"\n', 'runs', files=('a.vmdk',))
    text('line-not-of-a-grain', split + 'RW 8191 SPARSE "a.vmdk"\n', 'runs', files=('a.vmdk',))
    # What a file's header says that a descriptor names.
    for n, at, v in [('descriptor-long', 36, 1 << 50), ('descriptor-far', 28, 1 << 50),
                     ('overhead-far', 64, 1 << 50), ('capacity-far', 12, 1 << 62)]:
        i = Image('a.vmdk')
        i.put(at, '<Q', v)
        open(os.path.join(DIR, 'extent-' + n), 'wb').write(i.b)
        text('extent-' + n, split + 'RW 8192 SPARSE "extent-%s"\n' % n,
             files=('extent-' + n,))
    text('long-line', good + 'x' * 70000 + '\n' + flat, 'runs')
    text('zero-bytes', good + '\0\0\0' + flat, 'runs')
    text('high-bytes', (good + flat).encode() + bytes(range(128, 256)), 'runs')
    text('long', good + flat + '#' * (2 << 20), words='.')
    text('parent-none', good.replace('ffffffff', '12345678') + flat)
    text('parent-cid-wrong', good.replace('parentCID=ffffffff',
         'parentCID=00000001\nparentFileNameHint="a.vmdk"') + flat, 'refuse', 'CID|parent',
         files=('flat.raw', 'a.vmdk'))


def stream():
    """Compressed grains of a stream; and the same with its directory at its end."""
    def gt(i): return i.get(i.get(56, '<Q') * 512, '<I') * 512

    def used(i):
        return next(gt(i) + k for k in range(0, 2048, 4) if i.get(gt(i) + k, '<I'))

    def grain(i): return i.get(used(i), '<I') * 512

    def packed(i, data):
        i.put(grain(i) + 8, '<I', len(data))
        i.b[grain(i) + 12:grain(i) + 12 + len(data)] = data

    def c(name, poke, outcome='ro-bad', words='read-only'):
        case('stream-' + name, 'stream.vmdk', outcome, words, poke)
    c('good', None, 'ro')
    for n in (0, 1, 131073, 0x7fffffff, 0xffffffff):
        c('size-%d' % n, lambda i, n=n: i.put(grain(i) + 8, '<I', n))
    c('rubbish', lambda i: i.b.__setitem__(slice(grain(i) + 12, grain(i) + 52), b'\xa5' * 40))
    for n in (65535, 65024, 512):
        c('short-%d' % n, lambda i, n=n: packed(i, zlib.compress(bytes(n))))
    c('empty', lambda i: packed(i, zlib.compress(b'')))

    # The last grain is cut by the disk's end, 3 sectors behind its start.
    def odd(name, n, outcome):
        def p(i):
            at = max(i.get(gt(i) + k, '<I') for k in range(0, 2048, 4)) * 512
            data = zlib.compress(bytes(n))
            i.put(at + 8, '<I', len(data))
            i.b[at + 12:] = data.ljust(-(-(len(data) + 12) // 512) * 512 - 12, b'\0')
        case('stream-last-%d' % name, 'odd.vmdk', outcome, 'read-only', p)
    for n in (1536, 2048, 65536):
        odd(n, n, 'ro')
    for n in (0, 1, 512, 1024, 1535, 1537, 2047, 65535):
        odd(n, n, 'ro-bad')
    c('bomb', lambda i: packed(i, zlib.compress(bytes(1 << 24))), 'ro')
    for n, f in {'header': lambda i: 1, 'directory': lambda i: i.get(56, '<Q'),
                 'table': lambda i: gt(i) // 512, 'far': lambda i: 0xffffffff,
                 'end': lambda i: (len(i.b) - 1) // 512}.items():
        c('grain-at-' + n, lambda i, f=f: i.put(used(i), '<I', f(i)))

    def end(poke=lambda b: None):
        def p(i):
            foot = bytearray(struct.pack('<QII', 1, 0, 3).ljust(512, b'\0') + i.b[:512] + bytes(512))
            poke(foot)
            i.put(56, '<Q', (1 << 64) - 1)
            i.b += bytes(-len(i.b) % 512) + foot
        return p

    def foot(at, fmt, *v):
        return end(lambda b: struct.pack_into(fmt, b, at, *v))
    c('footer', end(), 'ro')
    for n, at, fmt, v in [('marker', 12, '<I', 2), ('marker-sectors', 0, '<Q', 2),
                          ('magic', 512, '<I', 0), ('version', 516, '<I', 4),
                          ('capacity', 524, '<Q', 1), ('grain', 532, '<Q', 64),
                          ('gtes', 556, '<I', 256), ('at-end', 568, '<Q', (1 << 64) - 1),
                          ('gd-none', 568, '<Q', 0), ('end', 1024 + 12, '<I', 1)]:
        c('footer-' + n, foot(at, fmt, v), 'refuse', '.')
    c('footer-gds-far', foot(560, '<QQ', 1 << 40, 1 << 40), 'refuse', '.')
    c('footer-cut', both(end(), lambda i: i.b.__delitem__(slice(-512, None))), 'refuse', 'end')
    c('footer-none', put(56, '<Q', (1 << 64) - 1), 'refuse', 'end')


DIR = sys.argv[1]
qcow2_open()
qcow2_run()
qcow2_luks()
luks()
if os.path.exists(os.path.join(DIR, 'a.qcow')):
    qcow()
if os.path.exists(os.path.join(DIR, 'a.vmdk')):
    vmdk()
    stream()
