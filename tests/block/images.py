# SPDX-License-Identifier: MIT
"""Images for black_box.py, by the eyes of mvblk and of QEMU's tools."""

import contextlib
import struct
import subprocess
import time

K, M = 1024, 1024 * 1024
COPIED, COMPRESSED, OFFSET = 1 << 63, 1 << 62, 0x00fffffffffffe00
CORRUPT = 2
SIZES = {"512": 512, "4k": 4 * K, "64k": 64 * K, "2M": 2 * M}


class Skip(Exception):
    """It cannot be tested here; the text says why."""


def run(*command, status=0, text=None):
    """The output of a command that ends with (one of) `status`; None: any."""
    done = subprocess.run([str(word) for word in command], input=text, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    allowed = status if isinstance(status, tuple) else (status,)
    if status is not None and done.returncode not in allowed:
        raise AssertionError("status %d of %s\n%s" % (
            done.returncode, " ".join(map(str, command)), done.stdout))
    return done.stdout


class Image:
    """A file, by the eyes of both."""

    def __init__(self, name, size="64M", options="", backing=None, form="qcow2"):
        self.path, self.form = BOX.tmp / name, form
        below = ["-b", backing.path, "-F", backing.form] if backing else []
        run("qemu-img", "create", "-q", "-f", form, *(["-o", options] if options else []), *below,
            self.path, *([size] if size else []))

    def ours(self, *commands, flags=("-b",), status=0):
        words = [word for command in commands for word in ("-c", command)]
        return run(BOX.mvblk, *flags, "-f", self.form, *words, self.path, status=status)

    def theirs(self, *commands, flags=(), status=0):
        words = [word for command in commands for word in ("-c", command)]
        return run("qemu-io", *flags, "-f", self.form, *words, self.path, status=status)

    def check(self, *allowed):
        run("qemu-img", "check", "-f", "qcow2", self.path, status=allowed or 0)

    def repair(self):
        run("qemu-img", "check", "-f", "qcow2", "-r", "all", self.path, status=(0, 2, 3))

    def holds(self, *ranges):
        """(pattern, offset, length)... read so by both of us."""
        reads = ["read -P %d %d %d" % one for one in ranges]
        self.ours(*("read -q" + read[4:] for read in reads), flags=("-b", "-r"))
        self.theirs(*reads, flags=("-r",))

    def released(self):
        """After a kill: io_uring's files are closed some time after their process has ended."""
        for _ in range(50):
            if "lock" not in run("qemu-img", "info", self.path, status=None):
                return
            time.sleep(0.1)
        raise AssertionError("%s is still locked" % self.path)

    def used(self):
        return self.path.stat().st_blocks * 512

    # -- bytes

    def get(self, at, form=">Q"):
        with open(self.path, "rb") as image:
            image.seek(at)
            return struct.unpack(form, image.read(struct.calcsize(form)))[0]

    def put(self, at, value, form=">Q"):
        with open(self.path, "r+b") as image:
            image.seek(at)
            image.write(struct.pack(form, value))

    def l2(self):
        """Where the first L2 table is."""
        return self.get(self.get(40)) & OFFSET

    def incompatible(self):
        return self.get(72)


class Model:
    """What the image should hold: writes go to both."""

    def __init__(self, size):
        self.bytes = bytearray(size)
        self.commands = []

    def write(self, pattern, offset, length, how="write -q"):
        self.bytes[offset:offset + length] = bytes([pattern]) * length
        self.commands.append("%s %s %d %d" % (
            how, "" if "-z" in how else "-P %d" % pattern, offset, length))

    def apply(self, image, *more, flags=("-b",)):
        run(BOX.mvblk, *flags, image.path, text="\n".join([*self.commands, *more]) + "\n")
        self.commands = []

    def agrees(self, image):
        raw = BOX.tmp / "model.raw"
        raw.write_bytes(self.bytes)
        run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", image.path, raw)
        image.check()


@contextlib.contextmanager
def small_file_system(size):
    where = BOX.tmp / "small"
    where.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%d" % size, "small", where],
                      stderr=subprocess.DEVNULL, check=False).returncode:
        raise Skip("no right to mount a small file system")
    try:
        yield where
    finally:
        run("umount", "-l", where)


class BOX:
    """Where things are."""
    mvblk = tmp = None
