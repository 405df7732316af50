"""Images of qcow2: what a cell's words mean, made by qemu-img or by hand."""
import fcntl
import hashlib
import os
import shutil
import struct

from image import Header, Image, peek
from model import Model, Place, content, requests
from sides import Qemu, Unable, Wrong, log, run

AXES = {
    'compat': ['1.1', '0.10'],
    'cluster': ['64k', '512', '1k', '4k', '16k', '128k', '1M', '2M'],
    'refcount': ['16', '1', '2', '4', '8', '32', '64'],
    'l2': ['std', 'ext'],
    'pack': ['none', 'zlib', 'zstd', 'zlib-mix', 'zstd-mix', 'zlib-last', 'zstd-last'],
    'prealloc': ['off', 'metadata', 'falloc', 'full'],
    'lazy': ['off', 'on', 'dirty'],
    'crypt': ['none', 'aes', 'luks', 'luks-aes128-cbc-essiv', 'luks-slot3', 'luks-2slots'],
    'data': ['none', 'external', 'raw', 'absolute'],
    'backing': ['none', 'raw-shorter', 'raw-equal', 'raw-longer', 'qcow', 'qcow2-4k',
                'qcow2-1M', 'vmdk', 'chain3', 'chain30', 'zeroes', 'relative', 'absolute',
                'blanks', 'colons'],
    'snapshots': ['0', '1', '3', 'vmstate', 'larger', 'applied', 'deleted'],
    'bitmaps': ['none', 'enabled', 'disabled', 'in_use', 'two'],
    'size': ['std', '0', '512', '65024', 'odd', 'l2-', 'l2', 'l2+', '2G-', '2G', '2G+',
             '4G-', '4G', '4G+', '1T', '2P'],
    'header': ['std', 'extension', 'compat-bit', 'autoclear-bit', 'length104', 'length120',
               'no-names'],
}
DEFAULT = {a: v[0] for a, v in AXES.items()}
KEYS = [True]               # tap-img create takes --key-file
K, M, G = 1 << 10, 1 << 20, 1 << 30
SIZES = {'512': 512, '65024': 65024, 'odd': 5 * M + 512 * 7, '2G': 2 * G, '4G': 4 * G,
         '1T': 1 << 40, '2P': 1 << 51}


def number(s):
    return int(s[:-1]) * {'k': K, 'M': M}[s[-1]] if s[-1] in 'kM' else int(s)


def disk_size(o):
    cs = number(o['cluster'])
    cover = cs * (cs // (16 if o['l2'] == 'ext' else 8))
    s = o['size']
    if s == 'std':
        return 48 * M if cs >= M else 12 * M if cs >= 4 * K else 3 * M
    if s == '0':
        return 0
    if s.startswith('l2'):
        return cover + {'l2-': -cs, 'l2': 0, 'l2+': cs}[s]
    base = SIZES[s.rstrip('+-')]
    return base + (cs if s[-1] == '+' else -cs if s[-1] == '-' else 0)


def impossible(o):
    """Why qemu-img 7.2 or the format has no such image; None: it has."""
    cs, v3, size = number(o['cluster']), o['compat'] == '1.1', disk_size(o)
    rules = [
        (not v3 and o['refcount'] != '16', 'refcount_bits needs compat 1.1'),
        (not v3 and o['l2'] == 'ext', 'extended L2 needs compat 1.1'),
        (not v3 and o['pack'].startswith('zstd'), 'zstd needs compat 1.1'),
        (not v3 and o['lazy'] != 'off', 'lazy refcounts need compat 1.1'),
        (not v3 and o['data'] != 'none', 'a data file needs compat 1.1'),
        (not v3 and o['bitmaps'] != 'none', 'bitmaps need compat 1.1'),
        (not v3 and o['header'] not in ('std', 'extension'),
         'compat 0.10 has no such header field'),
        (o['l2'] == 'ext' and cs < 16 * K, 'extended L2 needs clusters of 16k'),
        (o['pack'] != 'none' and o['crypt'] != 'none', 'no compression with encryption'),
        (o['pack'] != 'none' and o['data'] != 'none', 'no compression with a data file'),
        (o['pack'] != 'none' and o['prealloc'] != 'off',
         'compressed clusters go where nothing is allocated'),
        (o['data'] == 'raw' and o['backing'] != 'none', 'raw data file excludes backing'),
        (o['data'] != 'none' and o['snapshots'] != '0', 'no snapshots with a data file'),
        (o['refcount'] == '1' and o['snapshots'] != '0',
         'refcounts of one bit cannot count snapshots'),
        (o['refcount'] == '2' and o['snapshots'] not in ('0', '1'),
         'refcounts of two bits count to three'),
        (o['refcount'] in ('2', '4', '8') and o['snapshots'] != '0' and
         o['pack'] != 'none', 'packed clusters and snapshots need larger refcounts'),
        (o['lazy'] == 'dirty' and (o['prealloc'] != 'off' or o['data'] == 'raw'),
         'nothing is left to allocate, which makes an image dirty'),
        (o['snapshots'] in ('vmstate', 'applied') and o['bitmaps'] != 'none',
         'QEMU applies no snapshot when there are bitmaps'),
        (o['prealloc'] != 'off' and o['backing'] != 'none' and
         (o['l2'] != 'ext' or o['prealloc'] != 'metadata'),
         'preallocation with backing is for extended L2 and metadata alone'),
        (o['prealloc'] in ('falloc', 'full') and size > 64 * M, 'a real file of this size'),
        (o['prealloc'] == 'metadata' and size > 5 * G, 'a table for all of this size'),
        (o['prealloc'] == 'metadata' and cs < 16 * K and size > G,
         'a table for all of this size'),
        (o['data'] == 'raw' and size > 5 * G, 'metadata for all of this size'),
        (o['data'] == 'raw' and cs < 16 * K and size > G, 'metadata for all of this size'),
        (cs == 512 and size > 128 * G, 'clusters of 512 bytes: 128 GiB at most'),
        (size > cs * cs // 8 * 4 * M, 'more than an L1 table of 32 MiB can map'),
        (o['l2'] == 'ext' and size > cs * cs // 16 * 4 * M,
         'more than an L1 table of 32 MiB can map'),
        (o['size'] == '2P' and cs not in (64 * K, 2 * M), 'once is enough: a large L1'),
        (o['size'] == '2P' and o['snapshots'] == 'vmstate',
         'QEMU puts the state behind the largest L1'),
        (o['size'] == '0' and (o['backing'], o['snapshots'], o['lazy'], o['pack']) !=
         ('none', '0', 'off', 'none'), 'an empty disk holds nothing'),
        (size < 65536 and (o['snapshots'] in ('larger', 'vmstate') or
                           o['pack'] not in ('none', 'zlib', 'zstd')),
         'too small for that'),
        (size > 64 * M and o['crypt'] != 'none' and
         (o['data'] == 'raw' or o['prealloc'] != 'off'), 'all of it is data'),
        (o['snapshots'] == 'larger' and not v3, 'QEMU does not resize v2 with snapshots'),
        (o['snapshots'] == 'larger' and (o['bitmaps'] != 'none' or size > 64 * M or
                                         o['prealloc'] != 'off'),
         'QEMU does not shrink such an image'),
        (o['header'] == 'length104' and o['pack'].startswith('zstd'),
         'zstd needs a header of 112'),
        (o['bitmaps'] != 'none' and size >= 1 << 40, 'bitmaps of such a disk are large'),
        (o['data'] != 'none' and o['size'] == '0', 'an empty file is no disk'),
        (size > 1 << 43 and o['backing'] in ('raw-equal', 'raw-longer'),
         'no raw file is so long'),
        (o['bitmaps'] == 'in_use' and o['size'] == '0', 'an empty disk holds nothing'),
        (o['bitmaps'] != 'none' and cs < 4 * K and o['backing'] != 'none',
         'the header has no room for both'),
        (cs == 512 and o['header'] == 'extension' and o['backing'] != 'none',
         'the header has no room for both'),
        (o['crypt'].startswith('luks') and cs == 512 and o['refcount'] == '64',
         'one more tried combination of small tables'),
    ]
    return next((why for bad, why in rules if bad), None)


def create(path, size, *options, fmt='qcow2', back=None, obj=(), maker='qemu-img'):
    """obj: qemu-img's words for the key."""
    if maker == 'tap-img' and obj and not KEYS[0]:
        maker = 'qemu-img'
    if maker == 'tap-img':
        options = [o for o in options if 'key-secret' not in o]
        obj = ['--key-file', obj[1].partition('file=')[2]] if obj else []
    argv = [maker, 'create', '-q', *obj, '-f', fmt]
    if options:
        argv += ['-o', ','.join(options)]
    if back:
        argv += ['-b', back[0], '-F', back[1]]
    timed(*argv, path, str(size))


def timed(*argv):
    """qemu-img measures how fast it derives keys, by an account of its time that a
    young process often finds empty: with a fast hash, 19 times of 20."""
    for _ in range(300):
        out = run(*argv, ok=(0, 1))
        if not out:
            return
        if 'accurate CPU usage' not in out:
            raise Wrong('%s: %s' % (' '.join(argv), out))
    raise Unable('qemu-img cannot measure its own time here')


def fill(img, rng, count=8, zeroes=True):
    """QEMU writes something into an image, all clean when this returns."""
    place = Place(img.model.size, img.cluster, img.spots)
    ops = requests(rng, place, count, zeroes, zeroes)
    with Qemu(img) as q:
        q.perform(ops, img.model)


def base(d, name, fmt, size, rng, cluster=65536, options=(), back=None, below=None):
    """A base image with something in it."""
    img = Image(d, name, fmt, size, cluster)
    os.makedirs(os.path.dirname(img.path), exist_ok=True)
    if fmt == 'raw':
        with open(img.path, 'wb') as f:
            f.truncate(size)
    else:
        create(img.path, size, *options, fmt=fmt, back=back)
    if below is not None:
        img.model = Model(size, below.model)
    fill(img, rng, 8, fmt == 'qcow2')
    return img


def backing(img, o, size, rng):
    """((name, format) for the image, its model)"""
    d, kind = img.dir, o['backing']
    rough = max(512, size // 512 * 512)
    small = min(rough, 12 * M)
    if kind.startswith('raw'):
        n = {'raw-shorter': max(512, small // 2 // 512 * 512 - 512), 'raw-equal': rough,
             'raw-longer': rough + 3 * M + 512}[kind]
        b = base(d, 'base.raw', 'raw', n, rng)
    elif kind == 'qcow':
        b = base(d, 'base.qcow', 'qcow', small, rng, 4096)
    elif kind.startswith('qcow2'):
        cs = kind[6:]
        b = base(d, 'base.qcow2', 'qcow2', small, rng, number(cs), ['cluster_size=' + cs])
    elif kind == 'vmdk':
        b = base(d, 'base.vmdk', 'vmdk', small, rng)
    elif kind.startswith('chain'):
        b = base(d, 'base0.raw', 'raw', small, rng)
        for i in range(1, int(kind[5:])):
            n = max(512, small + rng.randrange(-4, 5) * 33 * 512) if small > M else small
            b = base(d, 'base%d.qcow2' % i, 'qcow2', n, rng, 65536,
                     ['cluster_size=' + rng.choice(['4k', '64k', '16k'])],
                     (os.path.basename(b.path), b.fmt), b)
    elif kind == 'zeroes':
        first = base(d, 'first.raw', 'raw', small, rng)
        with open(first.path, 'r+b') as f:      # so that zero clusters hide something
            first.model.write(0, bytes([7]) * min(small, M))
            f.write(bytes([7]) * min(small, M))
        b = base(d, 'base.qcow2', 'qcow2', small, rng, 65536, [], ('first.raw', 'raw'),
                 first)
        with Qemu(b) as q:
            q.perform([('zero', 0, min(small, 192 * K), False)], b.model)
    else:
        name = {'relative': 'below/base.qcow2', 'absolute': 'base.qcow2',
                'blanks': 'a base, with blanks.qcow2', 'colons': 'nbd:a:b.qcow2'}[kind]
        b = base(d, name.replace(',', ''), 'qcow2', small, rng)
        rel = os.path.relpath(b.path, d)
        return (b.path if kind == 'absolute' else './' + rel if ':' in rel else rel,
                'qcow2'), b.model
    return (os.path.relpath(b.path, d), b.fmt), b.model


def make(d, o, rng, maker):
    cs, size = number(o['cluster']), disk_size(o)
    img = Image(d, 'disk.qcow2', 'qcow2', size, cs)
    img.maker = maker
    cover = cs * (cs // (16 if o['l2'] == 'ext' else 8))
    img.spots = [s for s in (cover, 2 * cover, cs * cs * 8 // int(o['refcount'])) if s < size]
    options = ['compat=' + o['compat'], 'cluster_size=%d' % cs]
    if o['refcount'] != '16':
        options.append('refcount_bits=' + o['refcount'])
    if o['l2'] == 'ext':
        options.append('extended_l2=on')
    if o['pack'].startswith('zstd'):
        options.append('compression_type=zstd')
    if o['prealloc'] != 'off':
        options.append('preallocation=' + o['prealloc'])
    if o['lazy'] != 'off':
        options.append('lazy_refcounts=on')
    if o['data'] != 'none':
        name = os.path.join(d, 'data.bin') if o['data'] == 'absolute' else 'data.bin'
        options.append('data_file=' + name)
        if o['data'] == 'raw':
            options.append('data_file_raw=on')
    obj = []
    if o['crypt'] != 'none':
        img.set_key('pass of the disk')
        img.luks = o['crypt'].startswith('luks')
        obj = ['--object', 'secret,id=s0,file=' + img.key]
        options += ['encrypt.format=' + ('luks' if img.luks else 'aes'),
                    'encrypt.key-secret=s0']
        if img.luks:
            options.append('encrypt.iter-time=10')
        if o['crypt'] == 'luks-aes128-cbc-essiv':
            options += ['encrypt.cipher-alg=aes-128', 'encrypt.cipher-mode=cbc',
                        'encrypt.ivgen-alg=essiv', 'encrypt.ivgen-hash-alg=sha256',
                        'encrypt.hash-alg=sha1']
    back = None
    if o['backing'] != 'none':
        back, below = backing(img, o, size, rng)
        img.model = Model(size, below)
    keyed(img, o, lambda: create(
        img.path, size, *options, back=back, obj=obj, maker=maker), obj,
          (size, tuple(options), back, maker, o['crypt']))
    real = Header(img.path)
    shown = struct.unpack_from('>Q', real.bytes, 24)[0] // 512 * 512
    if shown != size:
        raise Wrong('the new image has a disk of %d bytes, not %d' % (shown, size))
    if img.key and (o['prealloc'] != 'off' or o['data'] == 'raw') and size:
        # Space that is there but was never written is decrypted all the same.
        with Qemu(img, True) as q:
            for off in range(0, size, M):
                n = min(M, size - off)
                img.model.write(off, q.h.pread(n, off))
    if img.maker == 'tap-img' and o['prealloc'] != 'off':
        img.flagged = True          # space with zero flags
    packed(img, o, size, rng)
    header(img, o)
    lazy(img, o, rng)
    snapshots(img, o, rng)
    bitmaps(img, o, rng)
    if o['compat'] != '1.1' and back:
        img.discards = True         # ignored, which is as before
    img.reader = no_reader(o)
    img.packs = o['pack'] != 'none'
    if o['refcount'] == '2':
        img.acts = ()
    elif o['bitmaps'] != 'none':
        img.acts = ('-c', '-d')
    img.flags = o['compat'] == '1.1'
    return img


def no_reader(o):
    for bad, why in [
            (o['backing'] != 'none', 'libqcow follows no backing files'),
            (o['l2'] == 'ext', 'libqcow refuses extended L2'),
            (o['pack'].startswith('zstd'), 'libqcow refuses zstd'),
            (o['data'] != 'none', 'libqcow refuses data files'),
            (o['crypt'].startswith('luks'), 'libqcow has no LUKS'),
            (o['size'] in ('0', '2P', '1T'), 'libqcow is not asked for empty and huge disks'),
            (disk_size(o) > 64 * M, 'libqcow is not asked for large disks'),
            (o['header'] in ('length120', 'length104', 'compat-bit'),
             'libqcow wants a usual header'),
            (o['lazy'] == 'dirty', 'libqcow refuses incompatible bits')]:
        if bad:
            return why
    return None


def keyed(img, o, made, obj, same):
    """Make the image, and its key slots.  That takes qemu-img seconds of measuring for
    LUKS: the three ways of a cell begin with copies of one image."""
    if not img.luks or o['data'] != 'none' or o['backing'] == 'absolute':
        made()
        return slots(img, o, obj)
    name = repr(same).replace(img.dir, '').encode()
    first = os.path.join(os.path.dirname(img.dir), 'luks-' + hashlib.md5(name).hexdigest())
    with open(first + '.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(first):
            made()
            slots(img, o, obj)
            shutil.copyfile(img.path, first)
            return None
    shutil.copyfile(first, img.path)
    if 'slot' in o['crypt']:
        img.set_key('another pass')


def slots(img, o, obj):
    if o['crypt'] not in ('luks-slot3', 'luks-2slots'):
        return
    new = os.path.join(img.dir, 'key3')
    with open(new, 'w') as f:
        f.write('another pass')
    both = obj + ['--object', 'secret,id=s1,file=' + new, '--image-opts']
    opts = 'driver=qcow2,file.filename=%s,encrypt.key-secret=s0' % img.path
    timed('qemu-img', 'amend', *both, opts, '-o', 'encrypt.state=active,'
        'encrypt.new-secret=s1,encrypt.keyslot=3,encrypt.iter-time=10')
    if o['crypt'] == 'luks-slot3':
        run('qemu-img', 'amend', *both, opts.replace('s0', 's1'), '-o',
            'encrypt.state=inactive,encrypt.keyslot=0')
    img.set_key('another pass')


def packed(img, o, size, rng, fmt='qcow2'):
    """Compressed clusters to begin with: whole, mixed with others, the last cut."""
    if o['pack'] == 'none' or size < 512:
        return
    cs, kind = img.cluster, o['pack'].partition('-')[2]
    if img.maker == 'tap-img' and size <= 64 * M and not img.model.chunks:
        return packed_by_us(img, rng)
    count = max(1, min(48, 3 * M // cs, size // cs))
    first = max(0, (size // cs - count) // 2)
    if kind == 'last' or size > 64 * M:
        first = max(0, size // cs - count)
    cmds = []
    for i in range(first, first + count):
        at, n = i * cs, min(cs, size - i * cs)
        if n <= 0 or kind == 'mix' and rng.random() < 0.25:
            continue
        data = content(rng, n)
        name = os.path.join(img.dir, 'p%d' % i)
        with open(name, 'wb') as f:
            f.write(data)
        c = '' if kind == 'mix' and rng.random() < 0.25 else '-c '
        cmds.append('write -q %s-s %s %d %d' % (c, name, at, n))
        img.model.write(at, data)
    if kind == 'last' and size % cs:
        data = content(rng, size % cs)
        name = os.path.join(img.dir, 'plast')
        with open(name, 'wb') as f:
            f.write(data)
        cmds.append('write -q -c -s %s %d %d' % (name, size - len(data), len(data)))
        img.model.write(size - len(data), data)
    argv = ['qemu-io', '-f', fmt, img.path]
    for c in cmds:
        argv += ['-c', c]
    if cmds:
        out = run(*argv)
        if 'failed' in out:
            raise Wrong('qemu-io: ' + out)


def packed_by_us(img, rng):
    raw, m = img.path + '.raw', img.model
    for _ in range(12):
        n = min(max(1, m.size // 20), 300 * K)
        m.write(rng.randrange(0, m.size - n + 1), content(rng, n))
    with open(raw, 'wb') as f:
        for off in range(0, m.size, M):
            f.write(m.read(off, min(M, m.size - off)))
    run('tap-img', 'convert', '-q', '-n', '--target-is-zero', '-c', '-f', 'raw', '-O',
        img.fmt, raw, img.path)


def header(img, o):
    kind = o['header']
    if kind == 'std':
        return
    h = Header(img.path)
    if kind == 'extension':
        h.extensions.append((0x12345678, b'kept as it is'))
        if o['cluster'] == '512':
            h.extensions = [e for e in h.extensions if e[0] != h.NAMES]
    elif kind == 'compat-bit':
        h.set(80, 45)
    elif kind == 'autoclear-bit':
        h.set(88, 45)
    elif kind == 'length104':
        h.bytes = h.bytes[:104]
    elif kind == 'length120':
        h.bytes = h.bytes.ljust(112, b'\0')[:112] + b'trailing'
    else:
        h.extensions = [e for e in h.extensions if e[0] != h.NAMES]
    h.save()

    def kept(img):
        now = Header(img.path)
        if kind == 'extension' and now.extension(0x12345678) != b'kept as it is':
            raise Wrong('the unknown header extension is gone')
        if kind == 'compat-bit' and not now.mask(80) >> 45 & 1:
            raise Wrong('the unknown compatible bit is gone')
        if kind == 'autoclear-bit' and now.mask(88) >> 45 & 1:
            raise Wrong('the unknown autoclear bit was not cleared')
        if kind == 'length120' and bytes(now.bytes[112:120]) != b'trailing':
            raise Wrong('the bytes at the end of the header are gone')
        if kind == 'length104' and len(now.bytes) < 104:
            raise Wrong('the header is too short')
    img.after_ours.append(kept)


def lazy(img, o, rng):
    if o['lazy'] != 'dirty' or img.model.size < 512:
        return
    cmds, place = [], Place(img.model.size, img.cluster)
    for _ in range(5):
        n = place.length(rng, True)
        at = place.pick(rng, n)
        v = rng.randrange(1, 256)
        cmds += ['-c', 'write -q -P %d %d %d' % (v, at, n)]
        img.model.write(at, bytes([v]) * n)
    abort(img, cmds)
    if not Header(img.path).mask(72) & 1:
        raise Wrong('the image is not dirty')


def abort(img, cmds):
    """What qemu-io has written when it dies is in the file; its end is not."""
    argv = ['qemu-io'] + img.qemu_args() + cmds + ['-c', 'flush', '-c', 'abort']
    run(*argv, ok=(-6, 134))


def snapshots(img, o, rng):
    kind = o['snapshots']
    if kind == '0':
        return
    fill(img, rng, 6, False)
    if kind == 'vmstate':
        n = 300 * K
        run('qemu-io', *img.qemu_args(), '-c', 'write -q -b -P 66 0 %d' % n)
    img_snapshot(img, 's1')
    if kind in ('3', 'applied', 'deleted'):
        for name in ('s2', 's3'):
            fill(img, rng, 5, False)
            img_snapshot(img, name)
    if kind == 'applied':
        fill(img, rng, 5, False)
        img_snapshot(img, 's2', '-a')
    elif kind == 'deleted':
        fill(img, rng, 5, False)
        img_snapshot(img, 's2', '-d')
    elif kind == 'larger':
        n = img.model.size // 2 // 512 * 512
        run('qemu-img', 'resize', '-q', '--shrink', *img.qemu_args(), str(n))
        img.model.resize(n)
    elif kind == 'vmstate':
        def kept(img):
            # Only an applied snapshot shows its state: in a copy.
            twin = img.path + '.twin'
            shutil.copyfile(img.path, twin)
            args = [a.replace(img.path, twin) for a in img.qemu_args()]
            run('qemu-img', 'snapshot', '-a', 's1', *snapshot_args(args))
            out = run('qemu-io', *args, '-c', 'read -q -b -P 66 0 %d' % n)
            os.unlink(twin)
            if out:
                raise Wrong('the state of the machine is not what it was: ' + out)
        img.after_ours.append(kept)


def snapshot_args(args):
    """qemu-img snapshot knows no -f."""
    return args[2:] if args[0] == '-f' else args


def img_snapshot(img, name, act='-c'):
    img.ready('qemu')
    run('qemu-img', 'snapshot', act, name, *snapshot_args(img.qemu_args()))
    log('snapshot %s %s' % (act, name))
    if act == '-c':
        img.snapshots[name] = img.model.copy()
    elif act == '-a':
        img.model = img.snapshots[name].copy()
    else:
        del img.snapshots[name]


def bitmaps(img, o, rng):
    kind = o['bitmaps']
    if kind == 'none':
        return
    add = ['qemu-img', 'bitmap', '--add', '-g', '64k']
    run(*add, '--disable' if kind == 'disabled' else '--enable', *img.qemu_args(), 'b0')
    if kind == 'two':
        run('qemu-img', 'bitmap', '--add', '-g', '4k', '--enable', *img.qemu_args(), 'b1')
    if img.model.size >= 512:
        fill(img, rng, 4, False)
    if kind == 'in_use':
        img.model.write(0, b'\5' * 512)
        abort(img, ['-c', 'write -q -P 5 0 512'])

    def honest(img):
        if kind == 'disabled':
            return
        for name, flags in directory(img):
            if not flags & 1 and flags & 2:
                raise Wrong('bitmap %s says that it is valid after our writes' % name)
    img.after_ours.append(honest)


def directory(img):
    """(name, flags) of the bitmaps that QEMU would believe in."""
    h = Header(img.path)
    x = h.extension(h.BITMAPS)
    if x is None or not h.mask(88) & 1:
        return []
    count, _, length, at = struct.unpack('>IIQQ', x)
    b, pos, out = peek(img.path, at, length), 0, []
    for _ in range(count):
        flags, = struct.unpack_from('>I', b, pos + 12)
        n, extra = struct.unpack_from('>HI', b, pos + 18)
        out.append((b[pos + 24 + extra:pos + 24 + extra + n].decode(), flags))
        pos += (24 + extra + n + 7) // 8 * 8
    return out
