"""The three ways of a cell: QEMU writes, we write, both in turns."""
import os

from image import peek
from model import Place, content, difference, requests
from qcow2 import img_snapshot
from sides import Ours, Qemu, Unable, Wrong, log, run, third


def ops(img, rng, count, zeroes=True):
    place = Place(img.model.size, img.cluster, img.spots, img.limit)
    z = zeroes and img.zeroes
    return requests(rng, place, count, z, z and img.discards)


def look(img, side, rng, snapshots=True):
    """One side opens the image read-only and reads what the model says."""
    if side == 'qemu' and img.qemu_reads:
        return False
    img.ready(side)
    before = peek(img.path, 0, 1 << 20), os.path.getsize(img.path)
    with (Qemu if side == 'qemu' else Ours)(img, True) as s:
        s.verify(img.model, rng)
    if before != (peek(img.path, 0, 1 << 20), os.path.getsize(img.path)):
        raise Wrong('%s has changed the file, read-only' % side)
    if side == 'qemu' and snapshots:
        look_at_snapshots(img, rng)
    return True


def look_at_snapshots(img, rng):
    for name, m in img.snapshots.items():
        if m.size > img.model.size:     # of these QEMU shows the disk's size alone
            m = m.copy()
            m.resize(img.model.size)
        if img.key or m.size > 64 << 20:
            with Qemu(img, True, name) as q:
                q.verify(m, rng)
            continue
        raw = img.path + '.out'
        run('qemu-img', 'convert', '-f', img.fmt, '-l', name, '-O', 'raw', img.path, raw)
        try:
            with open(raw, 'rb') as f:
                for off in range(0, m.size, 1 << 20):
                    got, want = f.read(min(1 << 20, m.size - off)), m.read(
                        off, min(1 << 20, m.size - off))
                    if got != want:
                        raise Wrong('snapshot %s: %s' % (name, difference(got, want, off)))
        finally:
            os.unlink(raw)


def write(img, side, rng, count, zeroes=True):
    """One side opens the image, reads all, changes it, reads all again."""
    img.ready(side)
    if side == 'qemu' and img.packs and rng.random() < 0.7:
        pack(img, rng)
    with (Qemu if side == 'qemu' else Ours)(img) as s:
        s.verify(img.model, rng)
        s.perform(ops(img, rng, count, zeroes), img.model)
        s.verify(img.model, rng)
    if side == 'ours':
        for f in img.after_ours:
            f(img)


def pack(img, rng):
    """Compressed clusters by qemu-io, where it takes them."""
    cs, argv, tried = img.cluster, [], []
    whole = img.model.size // cs
    for k in range(min(4, whole)):
        at = rng.randrange(whole) * cs
        if any(at == t[0] for t in tried):
            continue
        data = content(rng, cs)
        name = os.path.join(img.dir, 'pack%d' % k)
        with open(name, 'wb') as f:
            f.write(data)
        tried.append((at, data))
        argv += ['-c', 'write -q -c -s %s %d %d' % (name, at, cs)]
    run('qemu-io', *img.qemu_args(), *argv, ok=(0, 1))
    with Qemu(img, True) as q:
        for at, data in tried:
            got = q.h.pread(cs, at)
            if got == data:
                img.model.write(at, data)
            elif got != img.model.read(at, cs):
                raise Wrong('qemu-io: a compressed cluster at %d is neither old nor new' % at)


def opinion(img):
    """The third reader; why not, or None."""
    if img.reader:
        return img.reader
    if img.flagged and img.flags:
        return 'zero flags are in it, which libqcow ignores'
    img.ready('qemu')
    third(img, img.model)
    return None


def same(img, notes):
    """QEMU's own reading beside ours, all of it."""
    if img.qemu_reads or Ours is Qemu:
        return
    if img.model.size > (1 << 42 if img.fmt != 'vmdk' else 1 << 32):
        notes.append('qemu-img compare would take minutes for such a large disk')
        return
    if img.key and img.model.size > 1 << 31:
        notes.append('qemu-img compare aborts on an encrypted disk of more than 2 GiB')
        return
    if img.before_qemu:
        notes.append('QEMU and we cannot have it open at once: the words for it differ')
        return
    sock = os.path.join(img.dir, 'run', 'nbd0.sock')
    with Ours(img, True):
        args = ['-f', img.fmt, '-F', 'raw', img.path, 'nbd+unix:///?socket=' + sock]
        if img.key:
            args = img.qemu_args() + ['driver=nbd,server.type=unix,server.path=' + sock]
        run('qemu-img', 'compare', '-q', *args)


def way_a(img, rng, count, notes):
    if not img.qemu_writes and img.model.size:
        write(img, 'qemu', rng, count, zeroes=img.reader is not None)
        img.check()
        look(img, 'ours', rng)
        notes.append(opinion(img))
        write(img, 'qemu', rng, count)
        img.check()
    elif img.model.size:
        notes.append('only read: ' + str(img.qemu_writes))
        notes.append(opinion(img))
    look(img, 'ours', rng)
    look(img, 'qemu', rng)
    same(img, notes)


def way_b(img, rng, count, notes):
    if img.we_write and img.made_by_us:
        notes.append('only made by tap-img: ' + img.we_write)
        notes.append(opinion(img))
        img.check()
        look(img, 'ours', rng)
        look(img, 'qemu', rng)
        return
    if img.we_write:
        raise Unable(img.we_write)
    if not img.model.size:
        with Ours(img) as s:
            s.verify(img.model, rng)
        img.check()
        return
    write(img, 'ours', rng, count, zeroes=img.reader is not None)
    img.check()
    if not look(img, 'qemu', rng):
        notes.append('QEMU does not read it: ' + img.qemu_reads)
    notes.append(opinion(img))
    write(img, 'ours', rng, count)
    img.check()
    look(img, 'ours', rng)
    look(img, 'qemu', rng)
    same(img, notes)


def way_c(img, rng, count, notes, rounds):
    if img.we_write or not img.model.size:
        raise Unable(img.we_write or 'an empty disk holds nothing')
    if img.qemu_writes:
        notes.append('only we write: ' + img.qemu_writes)
    snaps = 0
    for i in range(rounds):
        side = 'ours' if i % 2 == 0 or img.qemu_writes else 'qemu'
        log('round %d: %s writes' % (i, side))
        write(img, side, rng, max(4, count // 2))
        img.check()
        if side == 'ours' and (i % 4 == 0 or i >= rounds - 2):
            look(img, 'qemu', rng)
        if img.qemu_writes and i % 3 == 0:
            look(img, 'ours', rng)
        if img.snapshots and side == 'ours':
            act = rng.choice((None,) + img.acts)
            name = rng.choice(sorted(img.snapshots))
            if act == '-c' and len(img.snapshots) < 5:
                snaps += 1
                img_snapshot(img, 'r%d' % snaps)
            elif act == '-d' and len(img.snapshots) > 1 and name != 's1':
                img_snapshot(img, name, '-d')
            elif act == '-a' and img.snapshots[name].size == img.model.size:
                img_snapshot(img, name, '-a')
    look(img, 'ours', rng)
    look(img, 'qemu', rng)
    img.check()
