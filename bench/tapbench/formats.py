"""Image formats: against raw, and against qemu-nbd with the same format.

Each claim is a job on two images, run after one another in pairs.  An image
that the job changes for good (allocation) is made anew for every run.
"""
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import time

from . import proc, report, servers
from .clients import Job, Target

ALLOCATING = ("qcow2", "qcow", "vmdk")
PASSPHRASE = b"correct horse"


class Skip(Exception):
    pass


def qemu_img(*args):
    for _ in range(300):
        done = subprocess.run(["qemu-img"] + [str(a) for a in args],
                              capture_output=True, text=True)
        # Of LUKS: it measures its own time, in an account that is often empty.
        if "accurate CPU usage" not in done.stderr:
            break
    # Compressed qcow of QEMU 7.2 ends with 1 and is complete.
    if done.returncode and "-c" not in args:
        raise RuntimeError(f"qemu-img {args}: {done.stderr.strip()}")
    return done.stdout


class Tapdisk(servers.Server):
    """tapdisk with any spec."""
    count = 0

    def __init__(self, tapdisk, work, spec, key=None):
        n = 1000 + Tapdisk.count
        Tapdisk.count += 1
        self.ring, self.nbd = f"{work}/ring{n}.sock", f"{work}/nbd{n}.sock"
        cmd = [tapdisk, "--foreground", "--rundir", work, "-m", str(n), "-a", spec]
        if key:
            cmd += ["--key-file", key]
        start = time.monotonic()
        with tempfile.TemporaryFile("w+") as log:
            super().__init__(cmd, [self.ring, self.nbd], log)
            text = ""
            while "serving" not in text:
                if self.child.poll() is not None:
                    raise RuntimeError("tapdisk: " + text)
                time.sleep(0.001)
                log.seek(0)
                text = log.read()
        self.opened_ms = (time.monotonic() - start) * 1e3


class QemuNbd(servers.Server):
    count = 0

    def __init__(self, work, fmt, path, key=None):
        if not shutil.which("qemu-nbd"):
            raise Skip("no qemu-nbd")
        self.nbd = f"{work}/qf{QemuNbd.count}.sock"
        QemuNbd.count += 1
        opts = f"driver={fmt},file.driver=file,file.locking=off,file.aio=native," \
               f"file.cache.direct=on,file.filename={path}"
        cmd = ["qemu-nbd", "-t", "-e", "8", "-k", self.nbd]
        if key:
            cmd += ["--object", f"secret,id=s0,file={key}"]
            opts += ",key-secret=s0" if fmt == "luks" else \
                ",encrypt.format=luks,encrypt.key-secret=s0"
        super().__init__(cmd + ["--image-opts", opts], [self.nbd])


class Formats:
    def __init__(self, bench, build, work, folder, pairs, size_mib):
        self.bench, self.build, self.work = bench, build, work
        self.dir = tempfile.mkdtemp(prefix="tapbench.", dir=folder)
        self.pairs, self.mib = pairs, size_mib
        self.key = self.dir + "/key"
        with open(self.key, "wb") as f:
            f.write(PASSPHRASE)

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    # Images.

    def path(self, name):
        return f"{self.dir}/{name}"

    def full(self, fmt):
        """An image of random bytes, every cluster allocated; made once."""
        path = self.path("full." + fmt)
        raw = self.path("full.raw")
        if not os.path.exists(raw):
            with open(raw, "wb") as f:
                for _ in range(self.mib):
                    f.write(os.urandom(1 << 20))
                f.flush()
                os.fsync(f.fileno())
        if not os.path.exists(path):
            qemu_img("convert", "-f", "raw", "-O", fmt, raw, path)
        return path

    def fresh(self, fmt, mib=None):
        path = self.path("fresh." + fmt)
        if os.path.exists(path):
            os.unlink(path)
        qemu_img("create", "-q", "-f", fmt, path, f"{mib or 16384}M")
        return path

    def reserved(self, fmt):
        """full(), whose clusters are there as space that was never written: what
        preallocation=falloc makes, in the formats that have it and in the others."""
        path = self.path("reserved." + fmt)
        if not os.path.exists(path):
            shutil.copyfile(self.full(fmt), path)
        for e in json.loads(qemu_img("map", "--output=json", "-f", fmt, path)):
            if e["data"] and "offset" in e:
                subprocess.run(["fallocate", "-z", "-o", str(e["offset"]), "-l",
                                str(e["length"]), path], check=True)
        os.sync()
        return path

    def packed(self):
        """Compressed clusters of text-like bytes (about 3:1)."""
        path, raw = self.path("packed.qcow2"), self.path("packed.raw")
        if not os.path.exists(path):
            words = [w.encode() for w in re.findall(r"\w+", __doc__ * 4)]
            rng = random.Random(1)
            with open(raw, "wb") as f:
                for _ in range(min(self.mib, 512)):
                    b = b" ".join(rng.choice(words) + b"%d" % rng.randrange(1000)
                                  for _ in range(130000))
                    f.write(b[:1 << 20].ljust(1 << 20))
            qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", raw, path)
            os.unlink(raw)
        return path

    def chain(self, depth):
        """An empty overlay on `depth` images, the lowest of which is full."""
        base, fmt = self.full("qcow2"), "qcow2"
        for i in range(depth):
            top = self.path(f"chain{depth}.{i}.qcow2")
            if not os.path.exists(top):
                qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", fmt, top)
            base = top
        return base

    def luks(self):
        path = self.path("full.luks")
        if not os.path.exists(path):
            qemu_img("convert", "--object", f"secret,id=s0,file={self.key}", "-f",
                     "raw", "-O", "luks", "-o", "key-secret=s0,iter-time=10",
                     self.full("raw"), path)
        return path

    # One run: (server, end of it that the client speaks to).

    def tapdisk(self, spec, key=None):
        return Tapdisk(f"{self.build}/bin/tapdisk", self.work, spec, key)

    def once(self, make, how, job, ms, extra):
        server = make()
        try:
            where = server.ring if how == "ring" else server.nbd
            clients = self.bench.clients
            old, clients.gen_extra, oldms = clients.gen_extra, extra, clients.ms
            clients.ms = ms
            try:
                return Target(how, server, "gen", how, where).run(clients, job)
            finally:
                clients.gen_extra, clients.ms = old, oldms
        finally:
            server.close()

    def pair(self, name, a, b, job, of="iops", at_least=None, how=("ring", "ring"),
             extra=(), ms=None):
        """a, b: functions that start a server."""
        full = f"{name} ({job.name})"
        if not self.bench.wanted(full):
            return
        ratios, cpu, speed = [], [], []
        for i in range(self.pairs):
            order = (0, 1) if i % 2 else (1, 0)
            got = {}
            for k in order:
                proc.wait_until_quiet(0.1, 2)
                got[k] = self.once((a, b)[k], how[k], job, ms or self.bench.args.ms,
                                   list(extra))
            if got[1][of]:
                ratios.append(got[0][of] / got[1][of])
                speed.append((got[0]["iops"], got[1]["iops"]))
                cpu.append((got[0]["server_cpu_us"], got[1]["server_cpu_us"]))
        q = report.quartiles(ratios)
        med = [report.quartiles([s[k] for s in speed])[2] for k in (0, 1)]
        us = [report.quartiles([c[k] for c in cpu])[2] for k in (0, 1)]
        c = {"name": f"{name}; {med[0]:.0f}/s with {us[0]:.1f} us of CPU each against "
                     f"{med[1]:.0f}/s with {us[1]:.1f}",
             "image": "disk", "job": job.name, "of": of, "a": how[0], "b": how[1],
             "value": q[2], "target": f">= {at_least:g}", "met": q[2] >= at_least,
             "pairs": len(ratios), "spread": q}
        self.bench.claims.append(c)
        self.bench.say(c)

    # The claims.

    def against_raw(self):
        for how in ("ring", "nbd"):
            for rw, bs, depth in (("randread", "4k", 32), ("randwrite", "4k", 32),
                                  ("read", "1M", 4), ("write", "1M", 4)):
                self.pair(f"allocated qcow2 against raw, {how}",
                          lambda: self.tapdisk("qcow2:" + self.full("qcow2")),
                          lambda: self.tapdisk("aio:" + self.full("raw")),
                          Job(rw, bs, depth), at_least=0.95, how=(how, how))

    def allocation(self):
        job = Job("randwrite", "4k", 32)
        for fmt in ALLOCATING:
            self.pair(f"allocating writes, {fmt} against qemu-nbd",
                      lambda f=fmt: self.tapdisk(f"{f}:" + self.fresh(f)),
                      lambda f=fmt: QemuNbd(self.work, f, self.fresh(f)),
                      job, at_least=3, how=("nbd", "nbd"), ms=1500)
            self.pair(f"allocating writes, {fmt} against in place",
                      lambda f=fmt: self.tapdisk(f"{f}:" + self.fresh(f)),
                      lambda f=fmt: self.tapdisk(f"{f}:" + self.full(f)),
                      job, at_least=0.8, ms=1500)
            self.pair(f"allocating writes, {fmt} against in place, space reserved",
                      lambda f=fmt: self.tapdisk(f"{f}:" + self.fresh(f)),
                      lambda f=fmt: self.tapdisk(f"{f}:" + self.reserved(f)),
                      job, at_least=0.8, ms=1500)
            self.pair(f"allocating writes with a flush every 32, {fmt} against "
                      "qemu-nbd",
                      lambda f=fmt: self.tapdisk(f"{f}:" + self.fresh(f)),
                      lambda f=fmt: QemuNbd(self.work, f, self.fresh(f)),
                      job, at_least=2, how=("nbd", "nbd"), ms=1500,
                      extra=("--flush-every", "32"))

    def compressed(self):
        for rw, least in (("read", 5), ("randread", 1.5)):
            self.pair("compressed clusters against qemu-nbd",
                      lambda: self.tapdisk("qcow2:" + self.packed()),
                      lambda: QemuNbd(self.work, "qcow2", self.packed()),
                      Job(rw, "4k", 4), at_least=least, how=("nbd", "nbd"))

    def encrypted(self):
        for rw in ("randread", "randwrite"):
            for depth in (1, 32):
                job = Job(rw, "4k", depth)
                self.pair("luks against raw",
                          lambda: self.tapdisk("luks:" + self.luks(), self.key),
                          lambda: self.tapdisk("aio:" + self.full("raw")),
                          job, at_least=0.9)
                self.pair("luks against qemu-nbd",
                          lambda: self.tapdisk("luks:" + self.luks(), self.key),
                          lambda: QemuNbd(self.work, "luks", self.luks(), self.key),
                          job, at_least=1.5, how=("nbd", "nbd"))

    def chains(self):
        self.pair("a chain of 30 against one image",
                  lambda: self.tapdisk("qcow2:" + self.chain(30)),
                  lambda: self.tapdisk("qcow2:" + self.full("qcow2")),
                  Job("randread", "4k", 32), at_least=0.8)

    def one(self, name, value, target, met):
        c = {"name": name, "image": "disk", "job": "", "of": "", "a": "", "b": None,
             "value": value, "target": target, "met": met, "pairs": 1,
             "spread": [value] * 5}
        self.bench.claims.append(c)
        self.bench.say(c)

    def opening(self):
        """64 TiB, of which 1 TiB is mapped."""
        if not self.bench.wanted("opening a large image"):
            return
        path = self.path("large.qcow2")
        qemu_img("create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path,
                 "1T")
        qemu_img("resize", "-q", "-f", "qcow2", path, "64T")
        times, mem = [], []
        for _ in range(5):
            s = self.tapdisk("qcow2:" + path)
            times.append(s.opened_ms)
            mem.append(proc.private_kib(s.child.pid) / 1024)
            s.close()
        os.unlink(path)
        t, m = (report.quartiles(v)[2] for v in (times, mem))
        self.one("opening a 64 TiB qcow2 of which 1 TiB is mapped, ms (the start of "
                 "the process with it)", t, "<= 50", t <= 50)
        self.one("its private memory, MiB", m, "<= 16", m <= 16)

    def conversion(self):
        raw = self.path("half.raw")
        if not self.bench.wanted("convert"):
            return
        mib = 4096 if self.mib >= 1024 else self.mib
        with open(raw, "wb") as f:
            for i in range(mib):
                if i % 2:
                    f.seek(1 << 20, 1)
                else:       # compresses by about a half
                    f.write(os.urandom(1 << 19) + bytes(1 << 19))
            f.truncate(mib << 20)
        tap = f"{self.build}/bin/tap-img"
        q2, back = self.path("half.qcow2"), self.path("back.raw")
        for name, fmt, src, dst, more, least, n in (
                ("raw to qcow2", ("raw", "qcow2"), raw, q2, [], 1, self.pairs),
                ("qcow2 to raw", ("qcow2", "raw"), q2, back, [], 1, self.pairs),
                ("raw to compressed qcow2", ("raw", "qcow2"), raw, q2, ["-c"], 1.5,
                 min(self.pairs, 12))):
            ratios = []
            for i in range(max(1, n // 4)):
                took = {}
                for k in ((0, 1) if i % 2 else (1, 0)):
                    cmd = [(tap, "qemu-img")[k], "convert", "-f", fmt[0], "-O",
                           fmt[1], "-t", "none", "-T", "none", "-m", "16"] + more
                    if "-c" not in more:
                        cmd.append("-W")
                    # Freeing what was there before can take seconds.
                    if os.path.exists(dst):
                        os.unlink(dst)
                    os.sync()
                    t = time.monotonic()
                    subprocess.run(cmd + [src, dst], check=True,
                                   capture_output=True)
                    took[k] = time.monotonic() - t
                ratios.append(took[1] / took[0])
            q = report.quartiles(ratios)
            self.bench.claims.append({
                "name": f"tap-img convert against qemu-img, {name}, {mib} MiB",
                "image": "disk", "job": "", "of": "time", "a": "tap-img",
                "b": "qemu-img", "value": q[2], "target": f">= {least:g}",
                "met": q[2] >= least, "pairs": len(ratios), "spread": q})
            self.bench.say(self.bench.claims[-1])
        for p in (raw, q2, back):
            os.unlink(p)

    def run(self):
        for part in (self.against_raw, self.allocation, self.compressed,
                     self.encrypted, self.chains, self.opening, self.conversion):
            try:
                part()
            except Skip as e:
                self.bench.skip(f"formats: {e}")
