"""An image under test, and what is known of it."""
import os
import struct

from model import Model
from sides import run


class Image:
    def __init__(self, d, name, fmt, size, cluster=65536):
        self.dir = d
        self.path = os.path.join(d, name)
        self.fmt = fmt
        self.maker = 'qemu-img'     # or tap-img
        self.cluster = cluster
        self.spots = []             # offsets of the disk where something changes
        self.limit = None           # requests that change stay below it
        self.model = Model(size)
        self.snapshots = {}         # name: Model
        self.acts = ('-c', '-d', '-a')  # what is done to snapshots between the rounds
        self.key = None             # file with the passphrase
        self.password = ''
        self.luks = False
        self.below = []             # --backing, when names are not to be followed
        self.qemu_writes = None     # or the reason why not
        self.qemu_reads = None
        self.we_write = None
        self.made_by_us = False     # all that can be asked, if we do not write
        self.reader = None          # a third opinion: None, or the reason why not
        self.checks = (0,)          # good statuses of qemu-img check
        self.zeroes = True          # requests of that kind may be made
        self.discards = True
        self.packs = False          # qemu-io may write compressed clusters
        self.flags = False          # the format has zero flags ...
        self.flagged = False        # ... and they may be in it now
        self.before_qemu = []       # to be done to the file before QEMU opens it ...
        self.before_ours = []       # ... and before we do
        self.after_ours = []        # checks of the file when we have written
        self.after_make = []

    @property
    def spec(self):
        return '%s:%s' % (self.fmt, self.path)

    def qemu_args(self):
        if self.key:
            kind = 'luks' if self.password and self.luks else 'aes'
            return ['--object', 'secret,id=s0,file=' + self.key, '--image-opts',
                    'driver=%s,file.filename=%s,encrypt.format=%s,encrypt.key-secret=s0'
                    % (self.fmt, self.path, kind)]
        return ['-f', self.fmt, self.path]

    def ready(self, side):
        for f in self.before_qemu if side == 'qemu' else self.before_ours:
            f(self)

    def check(self, ok=None):
        """qemu-img check; formats that have none pass."""
        self.ready('qemu')
        argv = ['qemu-img', 'check', '-q'] + self.qemu_args()
        return run(*argv, ok=tuple(ok or self.checks) + (63,))

    def set_key(self, password):
        self.password = password
        self.key = os.path.join(self.dir, 'key')
        with open(self.key, 'w') as f:
            f.write(password)
        os.chmod(self.key, 0o600)


def poke(path, at, data):
    with open(path, 'r+b') as f:
        f.seek(at)
        f.write(data)


def peek(path, at, n):
    with open(path, 'rb') as f:
        f.seek(at)
        return f.read(n)


class Header:
    """Header and extensions of a qcow2 image, to be changed by hand."""
    BACKING, NAMES, BITMAPS = 0xE2792ACA, 0x6803F857, 0x23852875

    def __init__(self, path):
        self.path = path
        b = peek(path, 0, 65536)
        self.version, = struct.unpack_from('>I', b, 4)
        self.name_at, self.name_len, cb = struct.unpack_from('>QII', b, 8)
        self.cluster = 1 << cb
        b = peek(path, 0, self.cluster)
        self.length = struct.unpack_from('>I', b, 100)[0] if self.version > 2 else 72
        self.bytes = bytearray(b[:self.length])
        self.name = b[self.name_at:self.name_at + self.name_len] if self.name_at else b''
        self.extensions, at = [], self.length
        end = self.name_at or self.cluster
        while at + 8 <= end:
            kind, n = struct.unpack_from('>II', b, at)
            if kind == 0:
                break
            self.extensions.append((kind, b[at + 8:at + 8 + n]))
            at += 8 + (n + 7) // 8 * 8

    def mask(self, at):
        return struct.unpack_from('>Q', self.bytes, at)[0] if self.version > 2 else 0

    def set(self, at, bit):
        struct.pack_into('>Q', self.bytes, at, self.mask(at) | 1 << bit)

    def extension(self, kind):
        return next((d for k, d in self.extensions if k == kind), None)

    def save(self):
        """Write all anew, the length as it is now."""
        b = self.bytes
        if self.version > 2:
            struct.pack_into('>I', b, 100, len(b))
        tail = bytearray()
        for kind, d in self.extensions + [(0, b'')]:
            tail += struct.pack('>II', kind, len(d)) + d + bytes(-len(d) % 8)
        if self.name:
            struct.pack_into('>QI', b, 8, len(b) + len(tail), len(self.name))
            tail += self.name
        assert len(b) + len(tail) <= self.cluster
        poke(self.path, 0, (bytes(b) + tail).ljust(min(self.cluster, 4096), b'\0'))
