# SPDX-License-Identifier: MIT
"""A VMM with a small guest that polls and does jobs, a line from its console each, and tells in
how many cycles; what tests/bench/guest and tests/bench/guest_net have in common."""

import os
import re
import signal
import statistics
import subprocess

import stock

SLICE_S = 0.005
WARM_UP = 20  # slices, until memory and tables have been touched
TIMEOUT_S = 60
# KVM's PVM back end refuses a register of arch-capabilities
QEMU = ["qemu-system-x86_64", "-M", "q35", "-accel", "kvm", "-cpu", "host,arch-capabilities=off",
        "-m", "128", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
        "-name", "guest,debug-threads=on"]


def cpu_times(pid):
    """Nanoseconds on a CPU by thread, but for those of vCPUs."""
    times = {}
    for tid in os.listdir("/proc/%d/task" % pid):
        task = "/proc/%d/task/%s/" % (pid, tid)
        try:
            with open(task + "comm", encoding="utf-8") as comm, \
                 open(task + "schedstat", encoding="utf-8") as stat:
                if not re.match(r"vcpu\d|CPU \d", comm.read()):
                    times[int(tid)] = int(stat.read().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass  # a worker that ended
    return times


class Machine:
    """A VMM with the guest, which does jobs. The main thread has the console: whether it counts."""

    def __init__(self, argv, main_counts):
        signal.signal(signal.SIGALRM, too_late)
        signal.alarm(TIMEOUT_S)
        self.main_counts = main_counts
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        signal.alarm(TIMEOUT_S)
        try:
            # one that is killed leaves the image locked until the kernel has taken its ring apart
            if kind is None:
                self.process.communicate("\n")
        finally:
            signal.alarm(0)
            self.process.kill()
            self.process.wait()

    def answer(self, pattern):
        for line in self.process.stdout:
            if match := re.match(pattern, line):
                return match
            if "FAIL" in line:
                break
        raise SystemExit("no %r from: %s" % (pattern, " ".join(self.process.args)))

    def cpu_times(self):
        times = cpu_times(self.process.pid)
        if not self.main_counts:
            times.pop(self.process.pid, None)
        return times

    def do(self, words):
        """A slice: jobs per second, microseconds of CPU time and kicks of each."""
        signal.alarm(TIMEOUT_S)
        before = self.cpu_times()
        self.process.stdin.write("%s cycles=%d\n" % (words, SLICE_S * TSC_HZ))
        self.process.stdin.flush()
        answer = self.answer(r"cycles=(\d+) requests=(\d+) kicks=(\d+)")
        cycles, requests, kicks = (int(number) for number in answer.groups())
        after = self.cpu_times()
        cpu = sum(ns - before.get(tid, 0) for tid, ns in after.items())
        return requests * TSC_HZ / cycles, cpu / 1e3 / requests, kicks / requests


def tsc_hz():
    """What Linux calls bogomips are two to a cycle of the TSC."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return float(re.search(r"bogomips\s*: ([\d.]+)", file.read())[1]) * 1e6 / 2


TSC_HZ = tsc_hz()


def too_late(*_):
    raise SystemExit("a guest did not answer within %d s" % TIMEOUT_S)


def compare(vmms, jobs, rounds, seconds, main_counts=False):
    """What do() returned, by name of the job and of the VMM; in turns."""
    slices = max(2, round(seconds / SLICE_S))
    seen = {name: {vmm: [] for vmm in vmms} for name, _ in jobs}
    for _ in range(rounds):
        for vmm, argv in vmms.items():
            with Machine(argv, main_counts) as machine:
                machine.answer("ready")
                for name, words in jobs:
                    for _ in range(WARM_UP):
                        machine.do(words)
                    seen[name][vmm] += [machine.do(words) for _ in range(slices)]
    return seen


def report_head(what):
    print("%-49s %8s %8s %8s %6s  %6s %6s %6s"
          % ("", what, "best", "us each", "kicks", "ratio", "best", "of CPU"))


def report(name, seen, bench=None):
    """`seen`: what do() returned, by VMM; the one to compare with first. `bench`: see stock.raw()."""
    first, shown = None, name
    for vmm, slices in seen.items():
        rates, cpu, kicks = zip(*slices)
        figures = [statistics.median(rates), statistics.quantiles(rates, n=10)[-1],
                   statistics.median(cpu)]
        first = first or figures
        print("%-38s %-10s %8.0f %8.0f %8.2f %6.2f  %6.2f %6.2f %6.2f"
              % (shown, vmm, *figures, statistics.median(kicks),
                 *(ours / theirs for ours, theirs in zip(first, figures))), flush=True)
        shown = ""
    if bench:
        stock.raw(bench, name, "/s", {vmm: [rate for rate, _, _ in slices]
                                      for vmm, slices in seen.items()})
        stock.raw(bench, name + ", CPU of each", "us", {vmm: [cpu for _, cpu, _ in slices]
                                                        for vmm, slices in seen.items()})
