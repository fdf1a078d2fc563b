# SPDX-License-Identifier: MIT
"""Stock Debian guests of several VMMs, each asked for figures by its console, in turns: so that
what else the machine does meets all of them alike. The others stand still meanwhile. What
tests/bench/fio and tests/bench/net have in common."""

import argparse
import json
import os
import pty
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import time
import tty

HERE = os.path.dirname(os.path.realpath(__file__))
BOOT_S, ANSWER_S = 300, 120
FIGURES_MAX, LAST_WORDS = 25, 6000
SMALL_PAGES_MIB = 16  # at the begin of minivmm's guest memory, a mapping of its own
LESS = ("ns", "us", "ms", "s", "KiB")
KERNEL, INITRD = "vmlinuz-cloud", "initrd-cloud"
ROOT = "debian-gpt.raw"
CMDLINE = "console=ttyS0 root=/dev/vda1 ro quiet mitigations=off panic=-1 reboot=k net.ifnames=0" \
          " init=/bin/sh -- /dev/vdb"
# What the guest's shell runs: a line from the console, its output, and a sign of its end.
SCRIPT = """mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /tmp
dmesg -n 1; exec </dev/ttyS0 >/dev/ttyS0 2>&1; stty -echo; echo "=ready="
while read -r line; do eval "$line"; echo "=end="; done
"""


def get_files(functions):
    """The kernel, its initramfs and its root, and the script, in this folder. `functions`: what the
    shell is asked for, as kvmtool takes but few characters at once."""
    subprocess.run("mkdir -p /mnt/images && mount -o ro,noload /dev/vda /mnt/images", shell=True,
                   check=True)
    for name in (KERNEL, INITRD):
        shutil.copy("/mnt/images/" + name, ".")
    os.symlink("/mnt/images/" + ROOT, ROOT)
    with open("script", "w", encoding="utf-8") as file:
        file.write((functions + SCRIPT).ljust(8192, "\n"))


def minivmm(program, cpus, disks=(), net=None):
    argv = [program, "--kernel", KERNEL, "--initrd", INITRD, "--mem", "384M", "--cpus", str(cpus),
            "--no-reboot", "--cmdline", CMDLINE, "--disk", ROOT + ",readonly",
            "--disk", "script,readonly"]
    for path in disks:
        argv += ["--disk", path]
    return argv + (["--net", net] if net else [])


def qemu(cpus, disks=(), net=None, poll_us=None):
    argv = ["qemu-system-x86_64", "-accel", "kvm", "-M", "q35", "-cpu", "host", "-nodefaults",
            "-display", "none", "-serial", "stdio", "-no-reboot", "-m", "384", "-smp", str(cpus),
            "-kernel", KERNEL, "-initrd", INITRD, "-append", CMDLINE, "-object", "iothread,id=io"]
    if poll_us is not None:
        argv[-1] += ",poll-max-ns=%d" % (poll_us * 1000)
    all_disks = [(ROOT, "raw,readonly=on"), ("script", "raw,readonly=on")]
    all_disks += [(path, path.rpartition(".")[2]) for path in disks]
    for number, (path, form) in enumerate(all_disks):
        argv += ["-drive", "if=none,id=d%d,file=%s,format=%s,aio=io_uring" % (number, path, form),
                 "-device", "virtio-blk-pci,drive=d%d,iothread=io" % number]
    return argv + (net or [])


def kvmtool(program, cpus, disks=(), net=None):
    argv = [program, "run", "-k", KERNEL, "-i", INITRD, "-m", "384", "-c", str(cpus),
            "--console", "serial", "-p", CMDLINE, "-d", ROOT + ",ro", "-d", "script,ro"]
    for path in disks:
        argv += ["-d", path]
    return argv + (["--network", net] if net else [])


class Guest:
    """Ends with its context; kvmtool does not by itself when its guest has."""

    def __init__(self, name, argv):
        self.name, self.text = name, ""
        self.fd, terminal = pty.openpty()  # kvmtool reads from nothing else
        tty.setraw(terminal)
        self.process = subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=terminal)
        os.close(terminal)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.fd)

    def wait(self, sign, seconds):
        """What comes before it."""
        until = time.monotonic() + seconds
        while sign not in self.text:
            if not select.select([self.fd], [], [], max(0, until - time.monotonic()))[0]:
                raise TimeoutError
            self.text += os.read(self.fd, 65536).decode(errors="replace")
        before, _, self.text = self.text.partition(sign)
        return before

    def ask(self, command, sign="=end=", seconds=ANSWER_S):
        """Its output; "" if none came in time, of which the last words are shown."""
        try:
            if command:
                os.write(self.fd, command.encode() + b"\n")
            return self.wait(sign, seconds)
        except OSError as why:  # one that ended, too
            print("%s: %s; its last words:\n%s" % (self.name, type(why).__name__,
                                                   self.text[-LAST_WORDS:]), flush=True)
            return ""

    def pause(self):
        """Until its next figure: an idle guest still ticks, and its VMM may still watch."""
        self.process.send_signal(signal.SIGSTOP)

    def run(self, command):
        """What a paused one says to it."""
        self.process.send_signal(signal.SIGCONT)
        answer = self.ask(command)
        self.pause()
        return answer

    def figure(self, command):
        match = re.search(r"=([\d.]+)=", self.run(command))
        return float(match[1]) if match else None


def job_functions(jobs):
    return "".join("job%d() { %s; }\n" % (index, job[1]) for index, job in enumerate(jobs))


def boot(vmms, stack):
    """Guests of these command lines by name, one after the other; they end with the stack."""
    guests = []
    for name, argv in vmms.items():
        guest = stack.enter_context(Guest(name, argv))
        start = time.monotonic()
        guest.ask("", "=ready=", BOOT_S)
        print("%-15s is up after %.1f s" % (name, time.monotonic() - start), flush=True)
        guest.pause()
        guests.append(guest)
    return guests


def measure(guests, jobs, rounds):
    """Figures by guest and job. `jobs`: (name, command, unit); see job_functions."""
    seen = {(guest.name, name): [] for guest in guests for name, _, _ in jobs}
    for number in range(rounds):
        for index, (name, _, _) in enumerate(jobs):
            figures = [guest.figure("job%d" % index) for guest in guests]
            print("round %2d, %-32s" % (number + 1, name),
                  " ".join("%9.1f" % (figure or 0) for figure in figures), flush=True)
            for guest, figure in zip(guests, figures):
                if figure:
                    seen[guest.name, name].append(figure)
    return seen


def some(figures):
    if len(figures) <= FIGURES_MAX:
        return figures
    figures = sorted(figures)
    return [figures[round(index * (len(figures) - 1) / (FIGURES_MAX - 1))]
            for index in range(FIGURES_MAX)]


def raw(bench, name, unit, by_vmm):
    """All figures of a job, for tests/bench/compare; of very many some, evenly, with both ends."""
    short = {vmm: [float("%.4g" % figure) for figure in some(figures)]
             for vmm, figures in by_vmm.items()}
    print("@" + json.dumps({"bench": bench, "job": name, "unit": unit, "less": unit in LESS,
                            "figures": short}), flush=True)


def report(names, jobs, seen, bench=None):
    """Medians, and the first one's to each other's: more is better, but of what takes time or room.
    `bench`: the name of what is measured, for raw()."""
    first, *peers = names
    print("%-32s %-6s %13s" % ("", "", first) + "".join("%14s ratio" % p for p in peers))
    for name, _, unit in jobs:
        if not any(seen[vmm, name] for vmm in names):
            continue
        ours = statistics.median(seen[first, name] or [0])
        line = "%-32s %-6s %13.1f" % (name, unit, ours)
        for peer in peers:
            theirs = statistics.median(seen[peer, name] or [0])
            pair = (theirs, ours) if unit in LESS else (ours, theirs)
            line += "%14.1f %5.2f" % (theirs, pair[0] / pair[1] if pair[1] else 0)
        print(line, flush=True)
        if bench:
            raw(bench, name, unit, {vmm: seen[vmm, name] for vmm in names})


def besides_kib(pid, mem_mib, field):
    """What a VMM has in memory besides its guest of `mem_mib`: "Rss", or "Pss", shared out."""
    total, guests = 0, False
    with open("/proc/%d/smaps" % pid, encoding="utf-8") as file:
        for line in file:
            if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                mib = (int(match[2], 16) - int(match[1], 16)) / (1 << 20)
                guests = mib in (mem_mib, mem_mib - SMALL_PAGES_MIB, SMALL_PAGES_MIB)
            elif line.startswith(field + ":") and not guests:
                total += int(line.split()[1])
    return total


def parser(prog, doc, jobs):
    """The options all of them have."""
    options = argparse.ArgumentParser(prog=prog, description=doc.split("\n", maxsplit=1)[0])
    options.add_argument("--rounds", type=int, default=10, metavar="N")
    options.add_argument("--raw", action="store_true", help="a line of JSON for each job, too")
    options.add_argument("--seconds", type=float, default=2, metavar="N", help="of each job")
    options.add_argument("--cpus", type=int, default=1, metavar="N", help="of the guest")
    options.add_argument("--jobs", default="".join(map(str, range(len(jobs)))), metavar="LIST",
                         help="digits: " + "; ".join("%d %s" % (n, job[0])
                                                     for n, job in enumerate(jobs)))
    options.add_argument("--only", default="", metavar="REGEX", help="VMMs by name")
    options.add_argument("--lkvm", metavar="LKVM", type=os.path.realpath, help="kvmtool's program")
    options.add_argument("--direct", action="store_true", help="on this machine's KVM")
    options.add_argument("--testbed", default="--cpus 2", metavar="OPTIONS",
                         help="the emulated machine (default: --cpus 2)")
    options.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("minivmm", nargs="+", metavar="MINIVMM", type=os.path.realpath,
                         help="one, or several builds")
    return options


def programs(args):
    """Copies of minivmm's builds by name, and of kvmtool's, here: 9p is slow."""
    found = {}
    for number, path in enumerate(args.minivmm):
        name = "minivmm" + ("-%d" % number if number else "")
        found[name] = "./" + shutil.copy(path, name)
    if args.lkvm:
        found["kvmtool"] = "./" + shutil.copy(args.lkvm, "lkvm")
    return found


def run_again_inside(args, program, *prefix):
    """In the testbed, or wherever it is to be."""
    images = subprocess.run([HERE + "/../boot/images"], check=True, stdout=subprocess.PIPE,
                            text=True).stdout.strip()
    where = ["--direct"] if args.direct else [*args.testbed.split(), "--disk", images]
    return subprocess.run([HERE + "/../testbed/run", *where, "--mem", "7G", "--timeout", "3400",
                           "--", *prefix, os.path.realpath(program), "--inside",
                           *sys.argv[1:]], check=False).returncode
