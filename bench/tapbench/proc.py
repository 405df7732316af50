"""What the kernel knows of processes: CPU time, memory, system calls."""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time


def _tasks(pid):
    try:
        return [f"/proc/{pid}/task/{t}" for t in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def cpu_ns(pids):
    """CPU time of processes, threads included, in ns."""
    total = 0
    for pid in pids:
        for task in _tasks(pid):
            try:
                with open(task + "/schedstat") as f:
                    total += int(f.read().split()[0])
            except (OSError, ValueError):
                pass
    return total


def busy_ns():
    """CPU time that all processors have spent on anything but waiting."""
    with open("/proc/stat") as f:
        user, nice, system = map(int, f.readline().split()[1:4])
    return (user + nice + system) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def wait_until_quiet(share, patience):
    """Until the processors are idle but for `share`, or `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before = busy_ns()
        time.sleep(0.1)
        if busy_ns() - before <= share * 0.1e9 * (os.cpu_count() or 1):
            return


def kworkers():
    """The kernel's unbound workers: a loop device's I/O runs there."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm") as f:
                if f.read().startswith("kworker/u"):
                    found.append(int(pid))
        except OSError:
            pass
    return found


def private_kib(pid):
    """Memory that would be free if this process were not there."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(n) for n in re.findall(r"^Private_\w+:\s+(\d+) kB", f.read(),
                                              re.M))


class Syscalls:
    """Counts the system calls of a process: perf, else strace (which slows)."""

    def __init__(self, pid):
        self.pid = pid
        self.out = tempfile.NamedTemporaryFile("r")
        self.by = next((t for t in ("perf", "strace") if shutil.which(t)), None)
        if self.by == "perf" and not self._perf_works():
            self.by = "strace" if shutil.which("strace") else None

    def _perf_works(self):
        done = subprocess.run(["perf", "stat", "-e", "raw_syscalls:sys_enter",
                               "true"], capture_output=True)
        return done.returncode == 0

    def __enter__(self):
        if self.by == "perf":
            cmd = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-o",
                   self.out.name, "-p", str(self.pid)]
        elif self.by == "strace":
            cmd = ["strace", "-c", "-f", "-qq", "-o", self.out.name, "-p",
                   str(self.pid)]
        else:
            self.child = None
            return self
        self.child = subprocess.Popen(cmd, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        return self

    def __exit__(self, *exc):
        self.count = None
        if not self.child:
            return
        self.child.send_signal(signal.SIGINT)
        self.child.wait()
        text = self.out.read()
        if self.by == "perf":
            hit = re.search(r"^(\d+),.*raw_syscalls", text, re.M)
        else:
            hit = re.search(r"^100\.00\s+\S+\s+\S+\s+(\d+)", text, re.M)
        if hit:
            self.count = int(hit.group(1))
