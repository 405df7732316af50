"""Many disks: 200 idle ones under one daemon, and 64 busy ones on two cores."""
import glob
import json
import os
import subprocess
import time

from . import proc, servers
from .report import quartiles


def _entry(name, job, value, target, met, spread=None, pairs=1):
    return {"name": name, "image": "tmpfs", "job": job, "value": value,
            "target": target, "met": met, "pairs": pairs,
            "spread": spread or [value] * 5}


def _timed(cmd, **kw):
    t = time.monotonic()
    out = subprocess.run(cmd, check=True, capture_output=True, text=True, **kw)
    return time.monotonic() - t, out.stdout


def idle_disks(bin_dir, work, nr=200, rest=5):
    """Creation, memory, idle CPU, list and stats of `nr` disks."""
    run = f"{work}/many"
    os.mkdir(run, 0o700)
    env = dict(os.environ, BLKTAP_RUNDIR=run)
    ctl = f"{bin_dir}/tap-ctl"
    for i in range(nr):
        with open(f"{work}/many{i}.img", "wb") as f:
            f.truncate(16 << 20)
    daemon = subprocess.Popen(
        [f"{bin_dir}/blktapctrl", "--foreground", "--rundir", run, "--log", "stderr",
         "--log-level", "err"], stdin=subprocess.DEVNULL)
    try:
        servers.wait_for(f"{run}/ctl.sock", daemon)
        disks, start = [], time.monotonic()
        for i in range(nr):
            disks.append(json.loads(subprocess.run(
                [ctl, "create", "-a", f"aio:{work}/many{i}.img", "--json"],
                check=True, capture_output=True, text=True, env=env).stdout))
        created = time.monotonic() - start
        pids = [d["pid"] for d in disks]
        time.sleep(1)
        before = proc.cpu_ns(pids)
        time.sleep(rest)
        idle = (proc.cpu_ns(pids) - before) / 1e3 / rest / nr
        memory = [proc.private_kib(p) / 1024 for p in pids]
        listing = [_timed([ctl, "list", "--json"], env=env)[0] * 1e3
                   for _ in range(10)]
        stats = [_timed([ctl, "stats"], env=env)[0] * 1e3 for _ in range(10)]
    finally:
        # A daemon that is killed leaves its disks serving: shut down first.
        if daemon.poll() is None:
            subprocess.run([ctl, "shutdown"], env=env, capture_output=True,
                           timeout=60)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for f in glob.glob(f"{work}/many*.img"):
            os.unlink(f)
    job = f"{nr} disks"
    q = quartiles(memory)
    out = [
        _entry("creating them one after the other, s", job, created, "<= 5",
               created <= 5),
        _entry("private memory of an idle tapdisk, MiB", job, q[2], "<= 2",
               q[4] <= 2, q),
        _entry("CPU of an idle tapdisk, us per second", job, idle, "0",
               idle < 1),
    ]
    for name, t in (("list of all", listing),
                    ("stats of all", stats)):
        q = quartiles(t)
        out.append(_entry(f"tap-ctl {name}, ms", job, q[2], "<= 100",
                          q[2] <= 100, q, len(t)))
    return out


def _busy_set(tapdisk, work, images, nr, poll_us, into):
    """nr disks into a list, so that those of a failed start are ended too."""
    for i in range(nr):
        path = f"{images}/busy{poll_us}.{i}.img"
        with open(path, "wb") as f:
            f.write(b"\xa5" * (4 << 20))
        into.append(servers.Tapdisk(tapdisk, work, path, poll_us))


def _load(gen, disks, depth, ms):
    children = [subprocess.Popen(
        [gen, "--backend", "ring", "--path", d.ring, "--depth", str(depth), "--ms",
         str(ms), "--ramp-ms", "300", "--seed", str(i + 1)],
        stdout=subprocess.PIPE, text=True) for i, d in enumerate(disks)]
    return sum(json.loads(c.communicate()[0])["iops"] for c in children)


def busy_disks(tapdisk, gen, work, images, nr=64, pairs=8, ms=1500):
    """All of nr disks loaded at once: polling must not cost anything.  images: a
    folder on tmpfs."""
    sets, out = {"on": [], "off": []}, []
    try:
        _busy_set(tapdisk, work, images, nr, 0, sets["off"])
        _busy_set(tapdisk, work, images, nr, None, sets["on"])
        for depth in (1, 16):
            ratios = []
            for i in range(pairs):
                got = {n: _load(gen, sets[n], depth, ms)
                       for n in (("on", "off") if i % 2 else ("off", "on"))}
                ratios.append(got["on"] / got["off"])
            q = quartiles(ratios)
            # No difference is no claim: half of the pairs lie within the quartiles.
            out.append(_entry("busy disks on all processors: polling against none",
                              f"{nr} disks, randread 4k depth {depth}", q[2],
                              ">= 1, within the spread", q[3] >= 1, q, pairs))
    finally:
        for s in sets.values():
            for d in s:
                d.close()
        for f in glob.glob(f"{images}/busy*.img"):
            os.unlink(f)
    return out
