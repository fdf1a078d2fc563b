# SPDX-License-Identifier: MIT
"""Runs minivmm with a small guest, and says what came out."""

import argparse
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import cases
from cases import check, need, run_program

GUEST_TIMEOUT_S = 60


class Host:
    """Where minivmm and the guests are, and a folder that goes away with the test."""

    def __init__(self, minivmm, guests, sanitized, without_io_uring=None):
        # Whatever a nohup or a script around us ignores: minivmm would ignore it, too.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.minivmm = os.path.abspath(minivmm)
        self.without_io_uring = without_io_uring
        self.guests = pathlib.Path(guests).absolute()
        self.sanitized = sanitized
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix="minivmm-guest-"))

    def close(self):
        shutil.rmtree(self.tmp, ignore_errors=True)

    def guest(self, name):
        own = self.guests / f"guest_{name}.elf"
        return own if own.exists() else self.guests.parents[1] / "guest" / own.name

    def command(self, guest, *options, cmdline=""):
        """The command line that runs `guest` in 128 MiB."""
        command = [self.minivmm, "--kernel", self.guest(guest), "--mem", "128M",
                   "--cmdline", cmdline, *options]
        if self.without_io_uring:
            command.insert(0, self.without_io_uring)
        return [str(word) for word in command]

    def start(self, guest, *options, cmdline=""):
        """A Popen whose pipes are the console and the messages."""
        return subprocess.Popen(self.command(guest, *options, cmdline=cmdline),
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def run_command(self, command, stdin="", timeout_s=GUEST_TIMEOUT_S, **kwargs):
        return run_program(command, timeout_s, input=stdin.encode(), **kwargs)

    def run(self, guest, *options, cmdline="", stdin="", timeout_s=GUEST_TIMEOUT_S, **kwargs):
        return self.run_command(self.command(guest, *options, cmdline=cmdline), stdin, timeout_s,
                                **kwargs)

    def passes(self, guest, *options, messages=False, **kwargs):
        """Run `guest`, which must pass; without `messages`, silently. The Result."""
        result = self.run(guest, *options, **kwargs)
        check(result.status == 0 and result.out.endswith("PASS\n"), result)
        check("FAIL" not in result.out, result)
        if self.without_io_uring:  # which is said, once
            first, _, rest = result.err.partition("\n")
            check("io_uring is not available" in first and "io_uring" not in rest, result)
            result = dataclasses.replace(result, err=rest)
        check(messages or not result.err, result)
        return result

    def disk(self, name, size_bytes, content=None):
        """A raw file: zeroes, or what `content` (bytes) begins with."""
        path = self.tmp / name
        with open(path, "wb") as file:
            file.write(content or b"")
            file.truncate(size_bytes)
        return path

    def qcow2(self, name, size_bytes):
        need("qemu-img")
        path = self.tmp / name
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(size_bytes)],
                       check=True)
        return path

    def qcow2_to_raw(self, path):
        """Check the image, and return its content as a raw file."""
        raw = path.with_suffix(".raw")
        done = subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", path],
                              capture_output=True, text=True, check=False)
        check(done.returncode == 0, f"qemu-img check: {done.stdout}{done.stderr}")
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw], check=True)
        return raw


def main(doc, known):
    """What a program of tests, `doc` at its head, does: one of the `known` cases. Its status."""
    parser = argparse.ArgumentParser(description=doc.strip().splitlines()[0])
    parser.add_argument("--minivmm", required=True)
    parser.add_argument("--guests", required=True, help="folder of the guests' ELF files")
    parser.add_argument("--sanitized", action="store_true", help="minivmm has sanitizers")
    parser.add_argument("--without-io-uring", metavar="PROGRAM",
                        help="start minivmm by this, which forbids it")
    parser.add_argument("case", choices=sorted(known))
    args = parser.parse_args()

    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("SKIP: no access to /dev/kvm")
        return 77
    host = Host(args.minivmm, args.guests, args.sanitized, args.without_io_uring)
    return cases.run(args.case, known[args.case], host)
