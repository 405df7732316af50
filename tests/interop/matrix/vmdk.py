"""Images of vmdk, made by qemu-img or by hand."""
import os
import struct
import zlib

from image import Image, peek, poke
from model import Model, content
from qcow2 import G, K, M, base, create, fill
from sides import Unable, Wrong, run

FORMS = ['monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse',
         'twoGbMaxExtentFlat', 'streamOptimized']
CELLS = FORMS + ['zeroed-grain', 'odd-size', 'two-extents', 'two-flat-extents', 'compat6',
                 'child', 'child-of-child', 'child-zeroed', 'vmfs', 'zero-extent',
                 'rdonly-extent', 'crlf', 'crlf-flat', '2gb-sparse', '2gb-flat', 'gd-zero',
                 'gd-damaged', 'rgd-damaged', 'large', 'real-stream', 'grain-4k',
                 'grain-1M', 'renamed']
NOT_HERE = {'vmdk:cowd': 'COWD is not among our formats yet',
            'vmdk:sesparse': 'seSparse is not among our formats yet'}

DESCRIPTOR = '''# Disk DescriptorFile
version=1
CID=%(cid)08x
parentCID=ffffffff
createType="%(kind)s"

# Extent description
%(extents)s

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "16"
ddb.geometry.heads = "16"
ddb.geometry.sectors = "63"
ddb.adapterType = "ide"
'''


def descriptor(kind, *extents):
    return DESCRIPTOR % {'cid': 0x12345678, 'kind': kind, 'extents': '\n'.join(extents)}


def rewrite(path, change):
    """Change the descriptor, alone in its file or inside a sparse extent."""
    if peek(path, 0, 4) == b'KDMV':
        at, n = (512 * x for x in struct.unpack('<QQ', peek(path, 28, 16)))
        text = peek(path, at, n).rstrip(b'\0')
        new = change(text)
        assert len(new) <= n
        poke(path, at, new.ljust(n, b'\0'))
    else:
        text = change(open(path, 'rb').read())
        with open(path, 'wb') as f:
            f.write(text)


def make(d, kind, rng, maker):
    size = 40 * M
    img = Image(d, 'disk.vmdk', 'vmdk', size)
    img.spots = [32 * M]
    img.maker = maker
    make_as(img, kind, rng)
    return img


def make_as(img, kind, rng):
    d, size = img.dir, img.model.size
    if kind == 'streamOptimized':
        stream(img, rng)
    elif kind == 'real-stream':
        real_stream(img, rng)
    elif kind in FORMS:
        create(img.path, size, 'subformat=' + kind, fmt='vmdk', maker=img.maker)
    elif kind == 'zeroed-grain':
        create(img.path, size, 'zeroed_grain=on', fmt='vmdk', maker=img.maker)
        img.reader = 'libvmdk ignores zeroed grains'
    elif kind == 'compat6':
        create(img.path, size, 'compat6=on', fmt='vmdk', maker=img.maker)
    elif kind == 'odd-size':
        img.model = Model(size + 512 * 39)
        create(img.path, size + 512 * 39, fmt='vmdk', maker=img.maker)
    elif kind in ('two-extents', 'two-flat-extents'):
        form = 'Flat' if 'flat' in kind else 'Sparse'
        img.model = Model(2 * G + 8 * M)
        img.spots = [2 * G, 32 * M]
        create(img.path, img.model.size, 'subformat=twoGbMaxExtent' + form, fmt='vmdk',
               maker=img.maker)
        img.reader = 'libvmdk is not asked for large disks'
    elif kind.startswith('child'):
        b = base(d, 'base.vmdk', 'vmdk', size, rng)
        if kind == 'child-of-child':
            b = base(d, 'middle.vmdk', 'vmdk', size, rng, 65536, [], ('base.vmdk', 'vmdk'), b)
        name = os.path.basename(b.path)
        options = ['zeroed_grain=on'] if kind == 'child-zeroed' else []
        create(img.path, size, *options, fmt='vmdk', back=(name, 'vmdk'), maker=img.maker)
        img.model = Model(size, b.model)
        img.reader = 'libvmdk is not asked for children'
    elif kind == 'vmfs':
        flat(img, 'vmfs', ['RW %d VMFS "disk-flat.vmdk"'])
        img.reader = None
    elif kind == 'zero-extent':
        flat(img, 'monolithicFlat', ['RW %d FLAT "disk-flat.vmdk" 0', 'RW 2048 ZERO'])
        img.limit = size
        img.model = Model(size + M)
        img.qemu_writes = img.qemu_reads = 'QEMU leaves out ZERO extents'
        img.reader = 'libvmdk is not asked for ZERO extents'
    elif kind == 'rdonly-extent':
        flat(img, 'monolithicFlat', ['RW %d FLAT "disk-flat.vmdk" 0',
                                     'RDONLY 2048 FLAT "ro-flat.vmdk" 0'])
        img.limit = size
        img.model = Model(size + M)
        data = rng.randbytes(M)
        with open(os.path.join(d, 'ro-flat.vmdk'), 'wb') as f:
            f.write(data)
        img.model.write(size, data)
        img.qemu_writes = img.qemu_reads = 'QEMU leaves out RDONLY extents'
        img.reader = 'libvmdk is not asked for RDONLY extents'
    elif kind.startswith('crlf'):
        form = 'monolithicFlat' if 'flat' in kind else 'monolithicSparse'
        create(img.path, size, 'subformat=' + form, fmt='vmdk')
        rewrite(img.path, lambda t: t.replace(b'\n', b'\r\n'))
        img.reader = 'libvmdk is not asked for CR LF'
    elif kind.startswith('2gb'):
        form = 'Flat' if 'flat' in kind else 'Sparse'
        create(img.path, size, 'subformat=twoGbMaxExtent' + form, fmt='vmdk')
        two, twogb = b'"2GbMaxExtent', b'"twoGbMaxExtent'
        img.before_ours.append(
            lambda i: rewrite(i.path, lambda t: t.replace(twogb, two)))
        # QEMU refuses this spelling of the same thing.
        img.before_qemu.append(
            lambda i: rewrite(i.path, lambda t: t.replace(two, twogb)))
    elif kind == 'gd-zero':
        empty(img, 128, False)
        img.qemu_writes = 'QEMU cannot make a grain table'
    elif kind.startswith('grain'):
        empty(img, {'4k': 8, '1M': 2048}[kind[6:]], True)
        img.cluster = {'4k': 4096, '1M': M}[kind[6:]]
        if kind == 'grain-4k':
            img.reader = 'libvmdk wants grains of more than 8 sectors'
    elif kind == 'large':
        img.model = Model(64 * G)
        img.spots = [32 * M, 32 * G]
        create(img.path, img.model.size, fmt='vmdk', maker=img.maker)
        img.reader = 'libvmdk is not asked for large disks'
    elif kind in ('rgd-damaged', 'gd-damaged'):
        create(img.path, size, fmt='vmdk')
        fill(img, rng, 6)
        at, = struct.unpack('<Q', peek(img.path, 48 if kind[0] == 'r' else 56, 8))
        poke(img.path, at * 512, struct.pack('<I', 0x7fffffff))
        img.reader = 'libvmdk is not asked for damaged tables'
        img.qemu_writes = 'QEMU follows the damaged table when it writes'
        if kind == 'gd-damaged':
            img.qemu_reads = 'QEMU reads no damaged directory, until we have mended it'

            def mended(img):
                img.qemu_reads = None
            img.after_ours.append(mended)
    elif kind == 'renamed':
        create(os.path.join(d, 'first.vmdk'), size, fmt='vmdk')
        os.rename(os.path.join(d, 'first.vmdk'), img.path)
        img.reader = 'libvmdk follows the embedded name'
    else:
        raise KeyError(kind)


def flat(img, kind, extents):
    with open(os.path.join(img.dir, 'disk-flat.vmdk'), 'wb') as f:
        f.truncate(img.model.size)
    extents = [e % (img.model.size // 512) if '%d' in e else e for e in extents]
    with open(img.path, 'w') as f:
        f.write(descriptor(kind, *extents))


def empty(img, grain, tables):
    """An empty sparse extent: grain tables that are there, or entries of 0."""
    size = img.model.size // 512
    gts = -(-size // (grain * 512))
    text = descriptor('monolithicSparse', 'RW %d SPARSE "disk.vmdk"' % size).encode()
    gd_sectors = -(-gts * 4 // 512)
    rgd, pos, b = 21, 21, bytearray()
    dirs = []
    for _ in range(2):
        table = pos + gd_sectors
        entries = [table + 4 * i if tables else 0 for i in range(gts)]
        gd = struct.pack('<%dI' % gts, *entries).ljust(gd_sectors * 512, b'\0')
        part = gd + (bytes(2048 * gts) if tables else b'')
        dirs.append(pos)
        b += part
        pos += len(part) // 512
    over = -(-pos // grain) * grain
    head = struct.pack('<4sIIQQQQIQQQB4sH', b'KDMV', 1, 3, size, grain, 1, 20, 512, rgd,
                       dirs[1], over, 0, b'\n \r\n', 0).ljust(512, b'\0')
    whole = head + text.ljust(20 * 512, b'\0') + bytes(b)
    with open(img.path, 'wb') as f:
        f.write(whole.ljust(over * 512, b'\0'))
    img.spots = [s for s in (grain * 512 * 512,) if s < img.model.size]
    if not tables:
        img.reader = 'libvmdk is not asked for missing grain tables'


def something(img, rng):
    m = img.model
    for at in (0, 3 * M + 512, 20 * M, 32 * M - 64 * K, m.size - 200 * K):
        m.write(at, content(rng, 150 * K))


def stream(img, rng):
    """What convert makes of a raw disk."""
    something(img, rng)
    raw = os.path.join(img.dir, 'src.raw')
    with open(raw, 'wb') as f:
        f.write(img.model.read(0, img.model.size))
    try:
        run(img.maker, 'convert', '-c', '-f', 'raw', '-O', 'vmdk', '-o',
            'subformat=streamOptimized', raw, img.path)
    except Wrong as e:
        if img.maker == 'tap-img' and 'cannot be written again' in str(e):
            raise Unable('tap-img makes no streams') from None
        raise
    img.qemu_writes = 'a stream is made once'
    img.we_write = 'a stream is read-only'
    img.made_by_us = img.maker == 'tap-img'


def real_stream(img, rng):
    """In the order that others write it: markers, tables and directory at the end."""
    something(img, rng)
    size, grain = img.model.size // 512, 128
    text = descriptor('streamOptimized', 'RDONLY %d SPARSE "other-name.vmdk"' % size)

    def head(gd):
        return struct.pack('<4sIIQQQQIQQQB4sH', b'KDMV', 3, 0x30001, size, grain, 1, 20,
                           512, 0, gd, 128, 0, b'\n \r\n', 1).ljust(512, b'\0')

    def marker(sectors, kind):
        return struct.pack('<QII', sectors, 0, kind).ljust(512, b'\0')

    out = bytearray(head(2 ** 64 - 1) + text.encode().ljust(20 * 512, b'\0'))
    out = out.ljust(128 * 512, b'\0')
    gd = []
    for t in range(-(-size // (grain * 512))):
        gt = [0] * 512
        for i in range(512):
            lba = (t * 512 + i) * grain
            n = min(grain, size - lba) * 512
            if n <= 0:
                break
            data = img.model.read(lba * 512, n)
            if any(data):
                gt[i] = len(out) // 512
                z = zlib.compress(data)
                out += struct.pack('<QI', lba, len(z)) + z
                out += bytes(-len(out) % 512)
        if any(gt):
            out += marker(4, 1)
            gd.append(len(out) // 512)
            out += struct.pack('<512I', *gt)
        else:
            gd.append(0)
    b = struct.pack('<%dI' % len(gd), *gd)
    b += bytes(-len(b) % 512)
    out += marker(len(b) // 512, 2)
    at = len(out) // 512
    out += b + marker(1, 3) + head(at) + marker(0, 0)
    with open(img.path, 'wb') as f:
        f.write(out)
    img.qemu_writes = 'a stream is made once'
    img.we_write = 'a stream is read-only'
    img.reader = 'libvmdk follows the embedded name'
