"""One run of a client: a job against a target, and what it measured."""
import json
import os
import resource
import subprocess
import time

from . import proc


class Job:
    def __init__(self, rw, bs, depth):
        self.rw, self.bs, self.depth = rw, bs, depth

    @property
    def name(self):
        return f"{self.rw} {self.bs} depth {self.depth}"


class Clients:
    """gen and fio, with the times of this run of the benchmark."""

    def __init__(self, gen, fio_engine, ms, ramp_ms):
        self.gen, self.fio_engine = gen, fio_engine
        self.ms, self.ramp_ms = ms, ramp_ms
        self.seed = 0
        self.gen_extra = []     # more arguments for gen

    def run_gen(self, backend, path, job, poll_us, ms=None):
        self.seed += 1
        cmd = [self.gen, "--backend", backend, "--path", path, "--rw", job.rw,
               "--bs", job.bs, "--depth", str(job.depth), "--ms",
               str(ms or self.ms), "--ramp-ms", str(self.ramp_ms), "--poll-us",
               str(poll_us), "--seed", str(self.seed)] + self.gen_extra
        out = json.loads(subprocess.run(cmd, check=True, capture_output=True,
                                        text=True).stdout)
        return {k: out[k] for k in ("iops", "mb_s", "lat_us", "p50_us", "p99_us",
                                    "client_cpu_us", "all_ops")}

    def run_fio(self, engine, where, job, poll_us):
        """engine: libaio or ring."""
        self.seed += 1
        cmd = ["fio", "--name=b", f"--rw={job.rw}", f"--bs={job.bs}",
               f"--iodepth={job.depth}", "--time_based", f"--runtime={self.ms}ms",
               f"--randseed={self.seed}", "--output-format=json", "--norandommap",
               "--thread", "--group_reporting"]
        if engine == "ring":
            cmd += [f"--ioengine=external:{self.fio_engine}", f"--sock={where}",
                    f"--poll_us={poll_us}"]
        else:
            cmd += [f"--ioengine={engine}", "--direct=1", f"--filename={where}"]
        text = subprocess.run(cmd, check=True, capture_output=True, text=True).stdout
        job_out = json.loads(text[text.index("{"):])["jobs"][0]
        side = job_out["write" if "write" in job.rw else "read"]
        cpu = job_out["usr_cpu"] + job_out["sys_cpu"]
        lat = side["clat_ns"]
        return {"iops": side["iops"], "mb_s": side["bw_bytes"] / 1e6,
                "lat_us": side["lat_ns"]["mean"] / 1000,
                "p50_us": lat.get("percentile", {}).get("50.000000", 0) / 1000,
                "p99_us": lat.get("percentile", {}).get("99.000000", 0) / 1000,
                "client_cpu_us": cpu / 100 * job_out["job_runtime"] * 1000 /
                max(1, side["total_ios"]),
                "all_ops": side["total_ios"]}


class Target:
    """What a job can be run against."""

    def __init__(self, name, server, client, backend, where, poll_us=0):
        self.name, self.server = name, server
        self.client, self.backend = client, backend
        self.where, self.poll_us = where, poll_us

    def _run(self, clients, job):
        run = clients.run_gen if self.client == "gen" else clients.run_fio
        return run(self.backend, self.where, job, self.poll_us)

    def run(self, clients, job):
        pids = self.server.pids()
        known = pids + [os.getpid()] + \
            [k for k in proc.kworkers() if k not in pids]
        before, other = proc.cpu_ns(pids), proc.cpu_ns(known)
        children, busy = resource.getrusage(resource.RUSAGE_CHILDREN), proc.busy_ns()
        start = time.monotonic()
        res = self._run(clients, job)
        lasted = (time.monotonic() - start) * 1e9
        busy = proc.busy_ns() - busy
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = proc.cpu_ns(known) - other + 1e9 * (
            after.ru_utime - children.ru_utime + after.ru_stime - children.ru_stime)
        res["foreign"] = max(0.0, busy - own) / lasted / (os.cpu_count() or 1)
        res["server_cpu_us"] = (proc.cpu_ns(pids) - before) / 1000 / \
            max(1, res["all_ops"])
        return res

    def syscalls(self, clients, job):
        """System calls of the server per request, or None."""
        pids = self.server.pids()
        if len(pids) != 1:
            return None
        with proc.Syscalls(pids[0]) as count:
            res = self._run(clients, job)
        if count.count is None:
            return None
        return count.count / max(1, res["all_ops"])
