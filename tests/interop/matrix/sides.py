"""The programs that take part: QEMU's, ours, and libyal's readers.

QEMU and tapdisk both serve an image as NBD, so that one session of requests can be
given to either.  A Wrong says what was found; what a program said itself is on
stderr, which is the cell's log.
"""
import os
import subprocess
import sys

import nbd

from model import difference


class Wrong(Exception):
    pass


class Unable(Exception):
    """It cannot be done here, and the reason."""


def log(*words):
    print(*words, file=sys.stderr, flush=True)


def run(*argv, ok=(0,), cwd=None):
    p = subprocess.run(argv, capture_output=True, text=True, cwd=cwd, timeout=120,
                       errors='replace')
    out = (p.stdout + p.stderr).strip()
    if p.returncode not in ok:
        raise Wrong('%s: status %d: %s' % (' '.join(argv), p.returncode, out[-1500:]))
    return out


def connect(h):
    h.set_request_structured_replies(True)
    h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.set_strict_mode(0)


class Served:
    """An image as NBD while the `with` lasts; h is libnbd's handle."""

    def perform(self, ops, model):
        """Do the requests, writes that do not touch one another at once."""
        h, flying = self.h, []

        def land():
            for cookie, _, _ in flying:
                while not h.aio_command_completed(cookie):
                    h.poll(-1)
            flying.clear()

        for op, at, what, flag in ops:
            n = len(what) if op == 'write' else what
            log('%s: %s %d+%d%s' % (self.who, op, at, n, ' flag' if flag else ''))
            if op in ('zero', 'discard'):
                self.img.flagged = True
            if op != 'write' or len(flying) >= 8 or any(
                    at < b and a < at + n for _, a, b in flying):
                land()
            if op == 'write':
                b = nbd.Buffer.from_bytearray(bytearray(what))
                flying.append((h.aio_pwrite(b, at), at, at + n))
                model.write(at, what)
            elif op == 'zero':
                h.zero(n, at, nbd.CMD_FLAG_NO_HOLE if flag else 0)
                model.zero(at, n)
            elif op == 'discard':
                h.trim(n, at)
                self.settle(model, at, n)
            else:
                h.flush()
        land()

    def settle(self, model, at, n):
        """Each sector that was discarded is as it was, or zeroes."""
        for off in range(at, at + n, 1 << 20):
            k = min(1 << 20, at + n - off)
            got, want = self.h.pread(k, off), model.read(off, k)
            if got == want:
                continue
            for i in range(0, k, 512):
                g, w = got[i:i + 512], want[i:i + 512]
                if g != w and any(g):
                    raise Wrong('%s: discarded %d+%d: neither zeroes nor as before: %s'
                                % (self.who, at, n, difference(g, w, off + i)))
            model.write(off, got)

    def verify(self, model, rng, whole=True):
        """Everything, or of a large disk what was written and what is near it."""
        h = self.h
        size = h.get_size()
        if size != model.size:
            raise Wrong('%s: the disk has %d bytes, not %d' % (self.who, size, model.size))
        if size == 0:
            return
        if size <= 96 << 20:
            ranges = [(0, size)]
        else:
            ranges = [(0, 1 << 20), (size - (1 << 20), size)]
            for i in model.chunks:
                ranges.append((max(0, (i - 2) << 16), min(size, (i + 3) << 16)))
            ranges += self.status(model)
            ranges = merge(ranges)
        for a, b in ranges:
            while a < b:
                n = min(b - a, rng.choice([1 << 20, 2 << 20, 655360, 4096 * 37]))
                self.compare(model, a, n)
                a += n
        if size <= 96 << 20:
            self.status(model)

    def compare(self, model, off, n):
        got, want = self.h.pread(n, off), model.read(off, n)
        if got != want:
            raise Wrong('%s reads %s' % (self.who, difference(got, want, off)))

    def status(self, model):
        """What it says of zeroes is true.  The rest, as ranges."""
        data, size = [], model.size
        parts = [(0, size)]
        if size > 1 << 42:          # millions of answers: where something may be
            parts = merge([(0, 1 << 33), (size - (1 << 33), size)] + [
                (max(0, (i << 16) - (1 << 31)), min(size, (i << 16) + (1 << 31)))
                for i in model.chunks])
        for pos, end in parts:
            self.status_of(model, pos, end, data)
        return data

    def status_of(self, model, pos, size, data):
        while pos < size:
            got = []
            # (QEMU 7.2 aborts on some of more than 2 GiB, on others answers wrongly)
            self.h.block_status(min(size - pos, 1 << 30), pos,
                                lambda c, off, e, err: got.extend(zip(e[::2], e[1::2])))
            if not got:
                raise Wrong('%s: no block status at %d' % (self.who, pos))
            for n, flags in got:
                n = min(n, size - pos)
                if n == 0:
                    raise Wrong('%s: block status of no bytes at %d' % (self.who, pos))
                if flags & 2:
                    if not model.is_zero(pos, n):
                        raise Wrong('%s: says that %d+%d is zeroes: it is not' %
                                    (self.who, pos, n))
                elif sum(b - a for a, b in data) < 64 << 20:
                    data.append((pos, min(pos + n, pos + (64 << 20))))
                pos += n

    def __exit__(self, kind, value, tb):
        try:
            self.end()
        except Exception as e:              # the first fault counts
            if kind is None:
                raise
            log('%s: also: %s' % (self.who, e))
        if kind is nbd.Error:
            raise Wrong('%s: %s' % (self.who, value)) from None


def merge(ranges):
    out = []
    for a, b in sorted(ranges):
        if out and a <= out[-1][1]:
            out[-1][1] = max(out[-1][1], b)
        elif a < b:
            out.append([a, b])
    return out


class Qemu(Served):
    who = 'qemu'

    def __init__(self, img, rdonly=False, snapshot=None, detect='off'):
        self.argv = ['qemu-nbd', '--discard=unmap', '--detect-zeroes=' + detect]
        if rdonly:
            self.argv.append('-r')
        if snapshot:
            self.argv += ['-l', snapshot]
        self.argv += img.qemu_args()
        self.img = img

    def __enter__(self):
        self.h = nbd.NBD()
        connect(self.h)
        log('qemu serves %s' % ' '.join(self.argv[1:]))
        try:
            self.h.connect_systemd_socket_activation(self.argv)
        except nbd.Error as e:
            raise Wrong('qemu-nbd does not open it: %s' % e) from None
        return self

    def end(self):
        self.h.shutdown()
        self.h = None           # libnbd ends the process and waits for it


class Ours(Served):
    who = 'tapdisk'

    def __init__(self, img, rdonly=False):
        self.img = img
        self.dir = os.path.join(img.dir, 'run')
        self.argv = ['tapdisk', '--foreground', '--rundir', self.dir, '-m', '0', '-D',
                     '-a', img.spec]
        if os.environ.get('SAN'):
            self.argv.append('--no-sandbox')
        if img.key:
            self.argv += ['--key-file', img.key]
        for b in img.below:
            self.argv += ['--backing', b]
        if rdonly:
            self.argv.append('-R')

    def __enter__(self):
        sock = os.path.join(self.dir, 'nbd0.sock')
        log('tapdisk serves %s' % ' '.join(self.argv[4:]))
        self.p = subprocess.Popen(self.argv, stderr=subprocess.PIPE, text=True,
                                  stdin=subprocess.DEVNULL, errors='replace')
        said = []
        while True:
            line = self.p.stderr.readline()
            if not line or ': serving ' in line:
                break
            said.append(line)
            log(line.rstrip())
        if not line:
            self.p.kill()
            self.p.wait()
            raise Wrong('tapdisk does not open it: %s' % ''.join(said).strip()[-800:])
        self.h = nbd.NBD()
        connect(self.h)
        self.h.connect_unix(sock)
        return self

    def end(self):
        try:
            self.h.shutdown()
        except nbd.Error as e:
            log('tapdisk: end of the connection: %s' % e)
        self.h = None
        self.p.terminate()
        try:
            _, said = self.p.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.communicate()
            raise Wrong('tapdisk does not end') from None
        if said:
            log(said.rstrip())
        if self.p.returncode != 0:
            raise Wrong('tapdisk ended with status %d: %s' %
                        (self.p.returncode, said[-1500:]))


def third(img, model):
    """libqcow or libvmdk read all of it."""
    try:
        import pyqcow
        import pyvmdk
    except ImportError:
        raise Unable('needs python3-libqcow and python3-libvmdk') from None
    if img.fmt == 'vmdk':
        h = pyvmdk.handle()
        h.open(img.path)
        h.open_extent_data_files()
    else:
        h = pyqcow.file()
        if img.password:
            h.set_password(img.password[:16])
        h.open(img.path)
    if h.get_media_size() != model.size:
        raise Wrong('the third reader sees %d bytes, not %d' %
                    (h.get_media_size(), model.size))
    for off in range(0, model.size, 1 << 20):
        n = min(1 << 20, model.size - off)
        want, got = model.read(off, n), b''
        while len(got) < n:
            part = h.read_buffer_at_offset(n - len(got), off + len(got))
            if not part:
                raise Wrong('the third reader gives nothing at %d' % (off + len(got)))
            got += part
        if got != want:
            raise Wrong('the third reader reads %s' % difference(got, want, off))
    h.close()
