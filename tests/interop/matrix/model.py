"""What a disk must read as, and random requests that change it.

A Model keeps only chunks that were ever written, so a disk of petabytes costs
what was written to it.  A discarded range may read as zeroes or as before; it is
settled() by the first reading of it, and must stay so.
"""

CHUNK = 65536
ZEROES = bytes(CHUNK)


class Model:
    def __init__(self, size, base=None):
        self.size = size
        self.chunks = {}
        if base is not None:        # a backing file, shorter or longer than this
            for i, c in base.chunks.items():
                n = min(size, base.size) - i * CHUNK
                if n > 0:
                    self.chunks[i] = bytearray(c[:n] + bytes(max(0, CHUNK - n)))

    def copy(self):
        return Model(self.size, self)

    def _pieces(self, off, n):
        while n > 0:
            i, at = divmod(off, CHUNK)
            k = min(n, CHUNK - at)
            yield i, at, k
            off += k
            n -= k

    def read(self, off, n):
        out = []
        for i, at, k in self._pieces(off, n):
            out.append(self.chunks.get(i, ZEROES)[at:at + k])
        return b''.join(out)

    def write(self, off, data):
        assert 0 <= off and off + len(data) <= self.size, (off, len(data), self.size)
        pos = 0
        for i, at, k in self._pieces(off, len(data)):
            c = self.chunks.get(i)
            if c is None:
                c = self.chunks[i] = bytearray(CHUNK)
            c[at:at + k] = data[pos:pos + k]
            pos += k

    def zero(self, off, n):
        end = off + n
        for i in self.touched(off, end):
            a, b = max(off, i * CHUNK), min(end, (i + 1) * CHUNK)
            self.chunks[i][a - i * CHUNK:b - i * CHUNK] = bytes(b - a)

    def resize(self, size):
        if size < self.size:
            self.zero(size, self.size - size)
        self.size = size

    def touched(self, off, end):
        """Numbers of the chunks in [off, end) that may not be zeroes."""
        first, last = off // CHUNK, (end - 1) // CHUNK
        if last - first > len(self.chunks):
            return sorted(i for i in self.chunks if first <= i <= last)
        return [i for i in range(first, last + 1) if i in self.chunks]

    def is_zero(self, off, n):
        return not any(any(self.chunks[i]) and
                       any(self.read(max(off, i * CHUNK), min(off + n, (i + 1) * CHUNK) -
                                     max(off, i * CHUNK)))
                       for i in self.touched(off, off + n)) if n > 0 else True


def difference(got, want, off):
    """Words for the first difference of two equally long strings."""
    first = next(i for i in range(len(want)) if got[i] != want[i])
    at, bad = off + first, sum(1 for i in range(0, len(want), 512)
                               if got[i:i + 512] != want[i:i + 512])
    g, w = got[first:first + 8], want[first:first + 8]
    return 'byte %d (%#x): %s, not %s; %d sectors of %d..%d differ' % (
        at, at, g.hex(), w.hex(), bad, off, off + len(want))


def content(rng, n):
    """Bytes of all kinds: what packs and what does not, and zeroes."""
    kind = rng.random()
    if kind < 0.35:
        return rng.randbytes(n)
    if kind < 0.6:
        return bytes([rng.randrange(1, 256)]) * n
    if kind < 0.9:
        word = b'%08x of the matrix; ' % rng.getrandbits(32)
        return (word * (n // len(word) + 1))[:n]
    if kind < 0.95:         # a bit of everything
        half = n // 2
        return rng.randbytes(half) + bytes(n - half)
    return bytes(n)


class Place:
    """Where requests go: the disk's borders of all kinds, and anywhere."""

    def __init__(self, size, cluster, spots=(), limit=None):
        self.end = size if limit is None else min(size, limit)
        self.cluster = cluster
        self.spots = [s for s in (0, self.end, *spots) if 0 <= s <= self.end]
        self.near = 8 << 20     # of a large disk only what is near a spot

    def pick(self, rng, n):
        if self.end <= 4 * self.near:
            at = rng.randrange(0, self.end)
        else:
            at = rng.choice(self.spots) + rng.randrange(-self.near // 2, self.near // 2)
        kind = rng.random()
        if kind < 0.25:
            at = rng.choice(self.spots) - rng.choice([0, 0, 512, n // 2, n])
        elif kind < 0.55:
            at -= at % self.cluster
            at += rng.choice([0, 0, 0, 512, -512, -(n // 2), self.cluster - n])
        elif kind < 0.9:
            at -= at % rng.choice([512, 4096])
        return max(0, min(at, self.end - n))

    def length(self, rng, aligned=False):
        c = self.cluster
        n = rng.choice([512, 512, 1024, 4096, 4096, c, c, 2 * c, c // 2, 3 * c + 512,
                        65536, rng.randrange(512, 65536), rng.randrange(1, 4096),
                        min(300 * 1024, 8 * c), 512 * rng.randrange(1, 256)])
        if rng.random() < 0.03:
            n = 1 << 20
        n = max(1, min(n, self.end, 3 << 20))
        return max(512, n // 512 * 512) if aligned else n


def requests(rng, place, count, zeroes=True, discards=True):
    """[(op, offset, length or data, flags)]; op: write zero discard flush."""
    out, budget = [], 3 << 20 if place.cluster >= 4096 else 400 << 10
    if place.end < 512:
        return out
    for _ in range(count):
        kind = rng.random()
        if kind < 0.62 or not (zeroes or discards):
            n = min(place.length(rng), max(4096, budget), place.end)
            budget -= n
            out.append(('write', place.pick(rng, n), content(rng, n), 0))
        elif kind < 0.78 and zeroes:
            n = place.length(rng)
            if rng.random() < 0.2:
                n = min(place.end, n * 16)
            out.append(('zero', place.pick(rng, n), n, rng.random() < 0.4))
        elif kind < 0.92 and discards:
            n = place.length(rng, True)
            if rng.random() < 0.2:
                n = min(place.end // 512 * 512, n * 16)
            at = place.pick(rng, n)
            at -= at % 512
            out.append(('discard', at, n, 0))
        else:
            out.append(('flush', 0, 0, 0))
    return out
