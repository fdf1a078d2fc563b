#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
`minivmm bench` as its user sees it; what measures is looked at for its form alone.

    command.py --minivmm build/minivmm --guests build/guest CASE

Exit status 0, 1, or 77 where this cannot be told here (the reason is printed).
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), ".."))

import cases
from cases import Skip, check, check_one_line, run_program

TIMEOUT_S = 150
NOT_EVERYWHERE = r"memory, (2M|THP)|net, vhost"
HEAD = {"minivmm-bench": 1, "host": {"kernel": "6.1", "looks": {"SMT": "1"}},
        "options": {"rounds": 3}}


class Host:
    def __init__(self, minivmm, guests):
        self.minivmm = os.path.abspath(minivmm)
        self.guests = pathlib.Path(guests)
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix="minivmm-bench-"))

    def close(self):
        shutil.rmtree(self.tmp, ignore_errors=True)

    def bench(self, *args):
        result = run_program([self.minivmm, "bench", *args], TIMEOUT_S, cwd=self.tmp)
        check(result.status >= 0 and "Sanitizer" not in result.err, result)
        return result

    def ok(self, *args):
        result = self.bench(*args)
        check(result.status == 0 and not result.err, result)
        return result

    def refused(self, status, fragments, *args):
        check_one_line(self.bench(*args), status, fragments)

    def file(self, name, **content):
        (self.tmp / name).write_text(json.dumps({**HEAD, **content}))
        return name


def entry(name, median, spread=0.1, more=False):
    return {"name": name, "unit": "/s" if more else "ns", "more-is-better": more, "samples": 9,
            "low": median * (1 - spread), "median": median, "high": median * (1 + spread)}


def skipped(name):
    return {"name": name, "unit": "ns", "more-is-better": False, "samples": 0, "why": "not here"}


def usage(host):
    host.refused(2, ["--rounds 0", "1 to 1000"], "--rounds", "0")
    host.refused(2, ["--seconds x"], "--seconds", "x")
    host.refused(2, ["--seconds nan"], "--seconds", "nan")
    host.refused(2, ["--nonsense"], "--nonsense")
    host.refused(2, ["unknown command"], "nonsense")
    host.refused(2, ["two files"], "compare", "one.json")
    host.refused(2, ["unexpected argument"], "host", "more")
    check("Usage: minivmm bench" in host.ok("--help").out, "no help")


def host_looks(host):
    out = host.ok("host").out
    check(re.search(r"^  load +\d+\.\d\d", out, re.MULTILINE), out)


def guests(host):
    """The files are those of the build, and nothing is written where nothing can be."""
    (host.tmp / "out").mkdir()
    host.ok("guests", "out")
    files = sorted((host.tmp / "out").iterdir())
    check(len(files) >= 5, files)
    for path in files:
        check(path.read_bytes() == (host.guests / path.name).read_bytes(), path)
    host.refused(1, ["nowhere"], "guests", "nowhere")


def compare(host):
    before = host.file("a", results=[entry("one", 100), entry("two", 100), entry("three", 100),
                                     entry("four", 100, more=True), entry("gone", 5),
                                     skipped("five"), entry("six", 7), skipped("seven")])
    after = host.file("b", results=[entry("new", 5), entry("one", 50), entry("two", 105),
                                    entry("three", 200), entry("four", 300, more=True),
                                    entry("five", 9, more=True), skipped("six"),
                                    skipped("seven")])
    out = host.ok("compare", before, after).out
    check(re.search(r"^one +100 +50\.0 +ns +0\.50 +better$", out, re.MULTILINE), out)
    check(re.search(r"^two +100 +105 +ns +1\.05 *$", out, re.MULTILINE), out)
    check(re.search(r"^three +100 +200 +ns +2\.00 +worse$", out, re.MULTILINE), out)
    check(re.search(r"^four +100 +300 +/s +3\.00 +better$", out, re.MULTILINE), out)
    check(re.search(r"^gone +5\.00 +- ns *$", out, re.MULTILINE), out)
    check(re.search(r"^five +- +9\.00 /s *$", out, re.MULTILINE), out)
    check(re.search(r"^six +7\.00 +- ns *$", out, re.MULTILINE), out)
    check(re.search(r"^seven +- +- ns *$", out, re.MULTILINE), out)
    check(re.search(r"^new +- +5\.00 ns *$", out, re.MULTILINE), out)
    check([line.split()[0] for line in out.splitlines()[1:]] == [
        "one", "two", "three", "four", "gone", "five", "six", "seven", "new"], out)
    check("!" not in out, out)
    other = host.file("c", host={"kernel": "6.12", "looks": {"SMT": "0"}}, results=[])
    out = host.ok("compare", before, other).out
    check("another kernel" in out and "another SMT" in out, out)
    # What is in one of the two alone, either way round, within an object or with it.
    more = host.file("d", host={**HEAD["host"], "name": "box",
                                "looks": {**HEAD["host"]["looks"], "nested": "1"},
                                "numa": {"nodes": 2}}, results=[])
    for pair in ((before, more), (more, before)):
        out = host.ok("compare", *pair).out
        names = re.findall(r"^! another (\w+) \(host\)$", out, re.MULTILINE)
        check(sorted(names) == ["name", "nested", "nodes"], out)


def compare_odd(host):
    """Files of others."""
    good = host.file("good", results=[entry("one", 1)])
    (host.tmp / "text").write_text("no JSON")
    (host.tmp / "other").write_text('{"minivmm-bench": 2, "results": []}')
    (host.tmp / "list").write_text("[1]")
    (host.tmp / "empty").write_text("")
    for bad in ("text", "other", "list", "empty", "missing"):
        host.refused(1, [bad], "compare", good, bad)
        host.refused(1, [bad], "compare", bad, good)
    odd = host.file("odd", host=[1], options="x", results=[
        1, {}, {"name": 5}, {"name": "one", "median": "x"}, {"name": "\x1b[2J", "median": 1e308},
        {"name": "one", "median": -1}, {"name": "zero", "median": 0}, None])
    for pair in ((good, odd), (odd, good), (odd, odd)):
        out = host.ok("compare", *pair).out
        check("\x1b" not in out, repr(out))


def need_kvm(host):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        host.refused(1, ["/dev/kvm"], "--only", "cpuid")
        raise Skip("no access to /dev/kvm")


def run(host):
    """Everything, as short as can be: each is measured, but for what this host does not have."""
    need_kvm(host)
    host.ok("--rounds", "1", "--seconds", "0.01", "--json", "all")
    seen = json.loads((host.tmp / "all").read_text())["results"]
    for result in seen:
        if result["samples"]:
            check(0 < result["low"] <= result["median"] <= result["high"], result)
        else:
            check(result["why"] and re.match(NOT_EVERYWHERE, result["name"]), result)
    check(len(seen) > 30, seen)
    host.ok("compare", "all", "all")
    host.refused(1, ["nothing has that"], "--only", "nonsense")
    host.refused(1, ["nowhere"], "--only", "disk, raw: 4k read, one", "--dir", "nowhere")
    host.refused(1, ["no/where"], "--only", "cpuid", "--seconds", "0.01", "--json", "no/where")


def wait_until(true, what):
    end = time.monotonic() + TIMEOUT_S
    while not true():
        check(time.monotonic() < end, f"waited for {what}")
        time.sleep(0.02)


def machine_of(bench_pid):
    """The pid of the machine that it has started, once it runs, or None."""
    children = pathlib.Path(f"/proc/{bench_pid}/task/{bench_pid}/children").read_text().split()
    if children and pathlib.Path(f"/proc/{children[0]}/comm").read_text() == "minivmm\n":
        return int(children[0])
    return None


def killed(host):
    """Whatever ends it, the machine that it measures goes with it."""
    need_kvm(host)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or it would be ignored there, too
    for number in (signal.SIGINT, signal.SIGKILL):
        with subprocess.Popen([host.minivmm, "bench", "--only", "exit", "--seconds", "60"],
                              stdout=subprocess.DEVNULL) as process:
            try:
                wait_until(lambda: machine_of(process.pid), "a machine")
                machine = pathlib.Path(f"/proc/{machine_of(process.pid)}")
                process.send_signal(number)
                check(process.wait(TIMEOUT_S) == -number, "the status")
                wait_until(lambda: not machine.exists(), "the machine's end")
            finally:
                process.kill()


CASES = {"compare": compare, "compare-odd": compare_odd, "guests": guests, "host": host_looks,
         "killed": killed, "run": run, "usage": usage}


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--minivmm", required=True)
    parser.add_argument("--guests", required=True, help="folder of the guests' ELF files")
    parser.add_argument("case", choices=sorted(CASES))
    args = parser.parse_args()
    return cases.run(args.case, CASES[args.case], Host(args.minivmm, args.guests))


if __name__ == "__main__":
    sys.exit(main())
