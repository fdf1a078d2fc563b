# SPDX-License-Identifier: MIT
"""One virtual machine, driven by its serial console as a person would.

$MINIVMM is the program under test. With MINIVMM=qemu the same guests run under
QEMU: the control that tells a fault of the emulated machine from one of ours.
"""

import os
import re
import selectors
import signal
import subprocess
import time

MINIVMM = os.environ.get("MINIVMM", "build/minivmm")

# Emulated processors are slow, on a busy machine even more so.
SLOW = 1 if os.environ.get("TESTBED") == "direct" else float(os.environ.get("BOOT_SLOW", "10"))
LOGIN_S = 40 * SLOW


# systemd gives a device 90 seconds, which on an emulated machine may not do.
PATIENT = "" if SLOW == 1 else (" systemd.default_device_timeout_sec=900"
                                " systemd.default_timeout_start_sec=900")
CMDLINE = "console=ttyS0 root=/dev/vda rw quiet" + PATIENT


class Hang(AssertionError):
    """What was waited for did not come."""


class Ended(AssertionError):
    """The virtual machine ended while it was waited for."""


def minivmm_argv(spec):
    argv = [*spec["prefix"], MINIVMM, "--kernel", spec["kernel"], "--mem", spec["mem"],
            "--cpus", str(spec["cpus"])]
    if spec["initrd"]:
        argv += ["--initrd", spec["initrd"]]
    if spec["cmdline"] is not None:
        argv += ["--cmdline", spec["cmdline"]]
    for disk in spec["disks"]:
        argv += ["--disk", disk]
    for net in spec["nets"]:
        argv += ["--net", net]
    return argv + ([] if spec["reboots"] else ["--no-reboot"]) + spec["options"]


def qemu_argv(spec):
    cmdline = spec["cmdline"]
    if cmdline is None:
        cmdline = "console=ttyS0 root=/dev/vda%s rw" % ("1" if "gpt" in spec["disks"][0] else "")
    argv = ["qemu-system-x86_64", "-accel", "kvm", "-M", "q35", "-cpu", "host", "-nodefaults",
            "-nographic", "-serial", "stdio", "-device", "virtio-rng-pci",
            "-kernel", spec["kernel"], "-m", spec["mem"], "-smp", str(spec["cpus"]),
            "-append", cmdline]
    if spec["initrd"]:
        argv += ["-initrd", spec["initrd"]]
    for number, disk in enumerate(spec["disks"]):
        path, *keys = disk.split(",")
        serial = [key for key in keys if key.startswith("serial=")]
        argv += ["-drive", "if=none,id=d%d,file=%s,format=%s,readonly=%s" % (
            number, path, "qcow2" if path.endswith("qcow2") else "raw",
            "on" if "readonly" in keys else "off")]
        argv += ["-device", ",".join(["virtio-blk-pci,drive=d%d" % number] + serial)]
    for number, net in enumerate(spec["nets"]):
        keys = dict(key.split("=") for key in net.split(","))
        argv += ["-netdev", "bridge,id=n%d,br=%s" % (number, keys["bridge"]),
                 "-device", "virtio-net-pci,netdev=n%d,mac=%s" % (number, keys["mac"])]
    return argv + ([] if spec["reboots"] else ["-no-reboot"])


class VM:
    """Use as a context manager: whatever happens, it is gone afterwards."""

    def __init__(self, kernel, initrd=None, cmdline=None, disks=(), nets=(), mem="512M", cpus=1,
                 reboots=False, options=(), prefix=(), log=None):
        self.spec = {"kernel": kernel, "initrd": initrd, "cmdline": cmdline, "disks": list(disks),
                     "nets": list(nets), "mem": mem, "cpus": cpus, "reboots": reboots,
                     "options": list(options), "prefix": list(prefix)}
        self.log = log
        self.seen = ""  # and not yet looked for
        self.said = ""  # all of it
        self.process = None

    def argv(self):
        return (qemu_argv if MINIVMM == "qemu" else minivmm_argv)(self.spec)

    def __enter__(self):
        self.note("+ " + " ".join(self.argv()) + "\n")
        self.process = subprocess.Popen(self.argv(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.selector.close()

    def note(self, text):
        if self.log:
            self.log.write(text)
            self.log.flush()

    def read(self, timeout):
        """What the console says next; None when it says nothing for that long."""
        if not self.selector.select(max(0, timeout)):
            return None
        data = os.read(self.process.stdout.fileno(), 65536)
        if not data:
            raise Ended("the VM ended with status %s; its last words:\n%s"
                        % (self.process.wait(), self.seen[-1500:]))
        text = data.decode(errors="replace").replace("\r", "")
        self.note(text)
        self.said += text
        return text

    def expect(self, pattern, timeout):
        """The match of pattern in what comes next on the console."""
        until = time.monotonic() + timeout
        while True:
            match = re.search(pattern, self.seen)
            if match:
                self.seen = self.seen[match.end():]
                return match
            text = self.read(until - time.monotonic())
            if text is None:
                raise Hang("%r did not come in %d s; the console's last words:\n%s"
                           % (pattern, timeout, self.seen[-1500:]))
            self.seen += text

    def send(self, text):
        self.note("<%s>" % text.strip())
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def login(self):
        self.expect(r"guest login: ", LOGIN_S)
        self.send("root\n")
        self.expect(r"root@guest:~# ", 10 * SLOW)
        self.send("stty -echo; dmesg -n 1; PS1=\n")
        self.run("true")
        return self

    def run(self, command, timeout=10 * SLOW):
        """A shell command's status and output."""
        self.send("echo =$((6*7))=; %s; echo =$((6*8))=$?=\n" % command)
        self.expect(r"=42=\n", timeout)
        match = self.expect(r"(?s)(.*?)=48=(\d+)=\n", timeout)
        return int(match[2]), match[1]

    def check(self, command, timeout=10 * SLOW):
        """A shell command's output; it must succeed."""
        status, output = self.run(command, timeout)
        assert status == 0, "%s: status %d in the guest:\n%s" % (command, status, output)
        return output

    def wait(self, timeout=12 * SLOW):
        """The status that the VM ends with."""
        try:
            self.expect(r"(?!)", timeout)
        except Ended:
            pass
        return self.process.returncode

    def poweroff(self):
        """Off without stopping every service first, which is slow where emulated."""
        self.send("sync; poweroff -f\n")
        assert self.wait() == 0, "after a poweroff in the guest"

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)
