"""Servers of one image, each a context that ends what it started."""
import os
import shutil
import signal
import subprocess
import tempfile
import time


class Missing(Exception):
    """Something that this machine does not have; its targets are skipped."""


def wait_for(path, child, seconds=10):
    end = time.monotonic() + seconds
    while not os.path.exists(path):
        if child.poll() is not None:
            raise RuntimeError(f"{child.args[0]} ended with status {child.returncode}")
        if time.monotonic() > end:
            raise RuntimeError(f"{child.args[0]} does not serve at {path}")
        time.sleep(0.002)


class Server:
    """A process with a socket."""

    def __init__(self, cmd, sockets, stderr=None):
        self.sockets = sockets
        self.child = subprocess.Popen(cmd, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=stderr)
        try:
            for s in sockets:
                wait_for(s, self.child)
        except RuntimeError:
            self.close()
            raise

    def pids(self):
        return [self.child.pid]

    def close(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        for s in self.sockets:
            if os.path.exists(s):
                os.unlink(s)


class Tapdisk(Server):
    minors = 0

    def __init__(self, tapdisk, work, image, poll_us=None):
        n = Tapdisk.minors
        Tapdisk.minors += 1
        self.ring = f"{work}/ring{n}.sock"
        self.nbd = f"{work}/nbd{n}.sock"
        cmd = [tapdisk, "--foreground", "--rundir", work, "-m", str(n), "-a",
               "aio:" + image]
        if poll_us is not None:
            cmd += ["--poll-us", str(poll_us)]
        with tempfile.TemporaryFile("w+") as log:
            super().__init__(cmd, [self.ring, self.nbd], log)
            self._wait_for_image(log)

    def _wait_for_image(self, log):
        """The sockets are there before the image is open; its log says."""
        text = ""
        while "serving" not in text:
            if self.child.poll() is not None:
                raise RuntimeError("tapdisk: " + text)
            time.sleep(0.002)
            log.seek(0)
            text = log.read()


class QemuNbd(Server):
    def __init__(self, work, image):
        if not shutil.which("qemu-nbd"):
            raise Missing("no qemu-nbd")
        self.nbd = f"{work}/qemu{os.path.basename(os.path.dirname(image))}.sock"
        # The image is shared with the other servers: no lock.
        super().__init__(
            ["qemu-nbd", "-t", "-e", "8", "-k", self.nbd, "--image-opts",
             "driver=raw,file.driver=file,file.locking=off,file.aio=native,"
             f"file.cache.direct=on,file.filename={image}"], [self.nbd])


class NbdkitNull(Server):
    def __init__(self, work, size):
        if not shutil.which("nbdkit"):
            raise Missing("no nbdkit")
        self.nbd = f"{work}/nbdkit{size}.sock"
        super().__init__(["nbdkit", "-f", "-U", self.nbd, "null", str(size)],
                         [self.nbd])


class Loop:
    """losetup --direct-io=on; its CPU is that of the kernel's workers."""

    def __init__(self, image):
        if os.geteuid():
            raise Missing("a loop device needs root")
        done = subprocess.run(["losetup", "--find", "--show", "--direct-io=on", image],
                              capture_output=True, text=True)
        if done.returncode:
            raise Missing("losetup: " + done.stderr.strip())
        self.path = done.stdout.strip()

    def pids(self):
        from .proc import kworkers
        return kworkers()

    def close(self):
        subprocess.run(["losetup", "-d", self.path], check=False)


class File:
    """The image itself, without a server."""

    def __init__(self, image):
        self.path = image

    def pids(self):
        return []

    def close(self):
        pass
