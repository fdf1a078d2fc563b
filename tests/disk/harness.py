# SPDX-License-Identifier: MIT
"""Runs `minivmm disk` and QEMU's tools on images in a folder that goes away."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from cases import check, check_one_line, need, run_program

TIMEOUT_S = 120


def same(ours, theirs, what):
    check(ours == theirs, f"{what}: {ours!r} is not {theirs!r}")


class Host:
    def __init__(self, minivmm, failing):
        self.minivmm = os.path.abspath(minivmm)
        self.failing = os.path.abspath(failing)
        shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix="minivmm-disk-", dir=shm))

    def close(self):
        shutil.rmtree(self.tmp, ignore_errors=True)

    def run(self, *command, **kwargs):
        """Any command; relative names are in our folder."""
        return run_program(command, TIMEOUT_S, cwd=self.tmp, **kwargs)

    def disk(self, *args, prefix=(), **kwargs):
        result = self.run(*prefix, self.minivmm, "disk", *args, **kwargs)
        check(result.status >= 0 and "Sanitizer" not in result.err, result)
        return result

    def ok(self, *args, **kwargs):
        """It must succeed without a word on stderr."""
        result = self.disk(*args, **kwargs)
        check(result.status == 0 and not result.err, result)
        return result

    def refused(self, status, fragments, *args, **kwargs):
        """One line, with all `fragments`, and the folder as it was."""
        before = self.listing()
        result = self.disk(*args, **kwargs)
        check_one_line(result, status, fragments)
        check(not result.out, result)
        same(self.listing(), before, f"files after {result}")

    def qemu(self, tool, *args, statuses=(0,)):
        need(tool)
        result = self.run(tool, *args)
        check(result.status in statuses, result)
        return result

    def qemu_io(self, image, *commands, fmt="qcow2"):
        words = [word for command in commands for word in ("-c", command)]
        return self.qemu("qemu-io", "-f", fmt, *words, image)

    def listing(self):
        return {str(path.relative_to(self.tmp)): path.read_bytes() if path.stat().st_size < 1 << 24
                else path.stat().st_size
                for path in sorted(self.tmp.rglob("*")) if path.is_file()}


class Holder:
    """qemu-io with an image open for writing."""

    def __init__(self, host, image):
        need("qemu-io")
        self.process = subprocess.Popen(["qemu-io", "-f", "qcow2", image], cwd=host.tmp,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process.stdin.write(b"length\n")
        self.process.stdin.flush()

    def __enter__(self):
        # It answers once the image is open.
        self.process.stdout.readline()
        return self

    def __exit__(self, *unused):
        self.process.communicate(b"quit\n", timeout=20)
