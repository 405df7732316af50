"""Images of qcow version 1, made by qemu-img or by hand."""
import hashlib
import os
import struct

from image import Image, peek
from model import Model
from qcow2 import M, base, create, fill, packed

CELLS = ['plain', 'odd-size', 'backed', 'backed-longer', 'backed-qcow2', 'packed',
         'packed-mix', 'packed-last', 'aes', 'aes-backed', 'short-file', 'xen',
         'own-cluster-backed-12', 'own-cluster-backed-16'] + [
    'cb%d-l2b%d' % (cb, l2b) for cb in (9, 12, 16) for l2b in range(6, 14)]


def by_hand(path, size, cb, l2b, at=48, name=b'', mid=b''):
    """An empty image: header, what follows it, L1 at `at`."""
    n = -(-size // (1 << cb + l2b))
    h = struct.pack('>4sIQIIQBBHIQ', b'QFI\xfb', 1, 0, 0, 0, size, cb, l2b, 0, 0, at)
    b = (h + mid).ljust(at, b'\0') + bytes(8 * n)
    b = b.ljust(-(-len(b) // 512) * 512, b'\0')
    if name:
        # behind the tables, where the first cluster will not be
        where = len(b)
        b += name.ljust(-(-len(name) // 512) * 512, b'\0')
        b = b[:8] + struct.pack('>QI', where, len(name)) + b[20:]
    with open(path, 'wb') as f:
        f.write(b)


def make(d, kind, rng, maker):
    size = 6 * M + 512 * 3 if kind == 'odd-size' else 6 * M
    img = Image(d, 'disk.qcow', 'qcow', size, 4096)
    img.maker = maker
    if kind.startswith('cb'):
        cb, l2b = (int(x) for x in kind[2:].split('-l2b'))
        img.cluster = 1 << cb
        img.spots = [s for s in (1 << cb + l2b, 2 << cb + l2b) if s < size]
        by_hand(img.path, size, cb, l2b)
        if 8 << l2b > img.cluster or l2b > 12:
            img.reader = 'libqcow misreads L2 tables that are larger than a cluster'
        elif cb + l2b > 27:
            img.reader = 'libqcow refuses so large a range of an L2 table'
    elif kind == 'xen':
        # The header of Xen's old tapdisk, tables in big endian.
        l1 = bytes(8 * -(-size // (1 << 12 + 9)))
        sum1 = hashlib.md5(l1).digest()[:4]
        mid = struct.pack('>4s4sII', b'XEN\xfb', sum1, 0, 2)
        by_hand(img.path, size, 12, 9, 4096, b'', mid)
    elif kind.startswith('own-cluster-backed'):
        b = base(d, 'base.raw', 'raw', size - 512 * 77, rng)
        cb = int(kind.rsplit('-', 1)[1])
        img.cluster = 1 << cb
        by_hand(img.path, size, cb, 9, 48, b'base.raw')
        img.below = ['aio:' + b.path]
        img.model = Model(size, b.model)
        img.qemu_writes = 'QEMU does not copy from the backing file in clusters over 512'
        img.reader = 'libqcow follows no backing files'
        return img
    elif kind.startswith('backed') or kind == 'aes-backed':
        img.cluster = 512
        n = size + 2 * M if kind == 'backed-longer' else size - 512 * 77
        fmt = 'qcow2' if kind == 'backed-qcow2' else 'raw'
        b = base(d, 'base.' + fmt, fmt, n, rng)
        obj, options = key(img) if kind == 'aes-backed' else ([], [])
        create(img.path, size, *options, fmt='qcow', back=('base.' + fmt, fmt),
               obj=obj, maker=maker)
        # The format of the backing file is not in the image.
        img.below = [('aio:' if fmt == 'raw' else 'qcow2:') + b.path]
        img.model = Model(size, b.model)
        img.reader = 'libqcow follows no backing files'
    else:
        obj, options = key(img) if kind == 'aes' else ([], [])
        create(img.path, size, *options, fmt='qcow', obj=obj, maker=maker)
    if kind == 'short-file':
        fill(img, rng, 6)
        end = os.path.getsize(img.path)
        last = (end - 1) // img.cluster * img.cluster + 512     # of each cluster a part
        while end > last and not any(peek(img.path, end - 512, 512)):
            end -= 512
        os.truncate(img.path, end)
        img.reader = 'libqcow wants what a short file has not'
    if kind.startswith('packed'):
        # Not later: QEMU writes a compressed cluster over one that is not, as if it were.
        compressed(img, kind, size, rng)
    return img


def key(img):
    img.set_key('sixteen bytes ok')
    return (['--object', 'secret,id=s0,file=' + img.key],
            ['encrypt.format=aes', 'encrypt.key-secret=s0'])


def compressed(img, kind, size, rng):
    packed(img, {'pack': 'zlib' + kind[6:]}, size, rng, 'qcow')
