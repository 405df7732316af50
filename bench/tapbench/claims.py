"""What the project claims about its speed: one entry a claim.

A ratio is the median of the ratios of pairs, one run each, made one after the
other.  `a`, `b`: targets; `of`: what is compared.  An absolute claim has no b.
"""

POLL_US = 200       # of client and server in the claims "with polling"


class Claim:
    def __init__(self, name, image, jobs, of, a, b=None, at_least=None, at_most=None):
        self.name, self.image, self.jobs, self.of = name, image, jobs, of
        self.a, self.b = a, b
        self.at_least, self.at_most = at_least, at_most

    def target_text(self):
        return f">= {self.at_least:g}" if self.at_least is not None else \
            f"<= {self.at_most:g}"

    def met(self, value):
        if self.at_least is not None:
            return value >= self.at_least
        return value <= self.at_most


def _rand(depth):
    return [("randread", "4k", depth), ("randwrite", "4k", depth)]


def _seq(bs, depth):
    return [("read", bs, depth), ("write", bs, depth)]


CLAIMS = []
for d in (16, 32):
    CLAIMS += [
        Claim("ring on the disk against fio's libaio on the file", "disk",
              _rand(d), "iops", "fio ring", "fio libaio", at_least=0.95),
        Claim("ring on the disk against the loop device", "disk",
              _rand(d), "iops", "fio ring", "fio loop", at_least=1.0),
    ]
CLAIMS += [
    Claim("ring on the disk, polling, against fio's libaio on the file", "disk",
          _rand(1), "iops", "fio ring polling", "fio libaio", at_least=1.0),
    Claim("ring on tmpfs, polling: IOPS", "tmpfs", _rand(16), "iops",
          "gen ring polling", at_least=350000),
    Claim("ring on tmpfs, polling, against the same generator's libaio", "tmpfs",
          _rand(16), "iops", "gen ring polling", "gen libaio polling",
          at_least=0.8),
    Claim("ring: system calls per request, sleeping", "disk", _rand(16),
          "syscalls", "gen ring", at_most=0.5),
    Claim("ring: system calls per request, sleeping", "tmpfs", _rand(16),
          "syscalls", "gen ring no polling", at_most=0.5),
    Claim("ring: system calls per request, polling", "tmpfs", _rand(16),
          "syscalls", "gen ring polling", at_most=0.1),
    # With four operations in the kernel a tapdisk sleeps (loop/poll.c), and
    # they are given to it in four pieces (io/aio.c): no less than sleeping.
    Claim("ring: system calls per request, polling", "disk", _rand(16),
          "syscalls", "gen ring polling", at_most=0.5),
    Claim("ring: tapdisk's CPU per request, us", "disk", _rand(32),
          "server_cpu_us", "gen ring", at_most=8),
    Claim("ring: tapdisk's CPU per request, us", "tmpfs", _rand(32),
          "server_cpu_us", "gen ring polling", at_most=2.5),
    Claim("NBD against qemu-nbd", "tmpfs", _rand(32), "iops",
          "gen nbd", "gen qemu-nbd", at_least=2.0),
    Claim("NBD against qemu-nbd, CPU per request", "tmpfs", _rand(32),
          "server_cpu_us", "gen nbd", "gen qemu-nbd", at_most=0.5),
    Claim("NBD against qemu-nbd, polling", "tmpfs", _rand(1), "iops",
          "gen nbd polling", "gen qemu-nbd", at_least=2.5),
    Claim("NBD against qemu-nbd", "tmpfs", _seq("1M", 4), "iops",
          "gen nbd", "gen qemu-nbd", at_least=4.0),
    Claim("NBD against qemu-nbd", "disk", _rand(32), "iops",
          "gen nbd", "gen qemu-nbd", at_least=1.4),
    Claim("NBD against qemu-nbd, CPU per request", "disk", _rand(32),
          "server_cpu_us", "gen nbd", "gen qemu-nbd", at_most=0.4),
    Claim("NBD: system calls per request", "disk", _rand(16), "syscalls",
          "gen nbd", at_most=1.0),
    Claim("NBD: system calls per request", "tmpfs", _rand(16), "syscalls",
          "gen nbd", at_most=1.0),
]

JOBS = [j for d in (1, 16, 32) for j in _rand(d)] + \
    _seq("128k", 8) + _seq("1M", 4)
