# SPDX-License-Identifier: MIT
"""Where and how the guest runs on this host: processors; and what there is not."""

import os
import pathlib
import time

from cases import Skip, check
from cases_machine import READ_TIMEOUT_S, stop, wait_for
from cases_refusals import FAILED, MIB, refused

POOLS = pathlib.Path("/sys/kernel/mm/hugepages")


def end(process):
    """The echo guest passes, and nothing was said."""
    process.stdin.write(b"end\n")
    process.stdin.flush()
    check(process.wait(READ_TIMEOUT_S) == 0, "status")
    check(process.stderr.read() == b"", "messages")


def threads(pid):
    """Name and processors of each thread, as far as it still is there."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            status = (task / "status").read_text()
        except OSError:
            continue
        found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        yield found["Name"], found["Cpus_allowed_list"]


def pinned(host, vcpus, others, *options):
    """Two vCPUs, and all other threads of ours, run where they should."""
    process = host.start("echo", "--cpus", 2, "--disk", host.disk("pin.raw", 1 << 20), *options)
    try:
        wait_for(process, b"ready\n")
        for _ in range(50):
            where = dict(threads(process.pid))
            if "vcpu1" in where:
                break
            time.sleep(0.1)
        found = [where.get("vcpu0"), where.get("vcpu1")]
        check(found == vcpus, f"{options}: {where}")
        for name in ("minivmm", "disk0", "rng0"):
            check(where.get(name) == others, f"{options}: {name}: {where}")
        end(process)
    finally:
        stop(process)


def pin(host):
    ours = sorted(os.sched_getaffinity(0))
    if len(ours) < 2:
        raise Skip("one processor: nothing to tell apart")
    first, second = map(str, ours[:2])
    (_, everywhere), = threads(os.getpid())
    pinned(host, [everywhere] * 2, everywhere)
    pinned(host, [everywhere] * 2, first, "--pin", f"io={first}")
    pinned(host, [second, first], everywhere, "--pin", f"{second}+{first}")
    pinned(host, [second, first], second, "--pin", f"{second}+{first},io={second}")
    os.sched_setaffinity(0, ours[:2])  # which is all that auto then has
    (_, both), = threads(os.getpid())
    pinned(host, [first, second], both, "--pin", "auto")


def free_huge_pages(kib):
    path = POOLS / f"hugepages-{kib}kB"
    return int((path / "free_hugepages").read_text()) if path.exists() else 0


def total_mib():
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB


def refuses_placement(host):
    """Processors, nodes and memory that this host has not."""
    count = len(os.sched_getaffinity(0))
    for options, fragments in (
            (["--pin", "1023"], ["--pin 1023", "not there", "taskset"]),
            (["--pin", "io=1023"], ["1023", "not there", "taskset"]),
            (["--pin", "auto", "--cpus", count + 1], ["--pin auto", "--cpus"]),
            (["--mem", "128M,numa=1000"], ["numa=1000"]),
            (["--mem", "128M,numa=1000,prefault"], ["numa=1000"]),
            # All that there is, and more, which has a warning of its own without prefault.
            (["--mem", f"{total_mib()}M,prefault"], ["prefault", "free some"]),
            (["--mem", f"{2 * total_mib()}M,prefault"], ["prefault", "free some"])):
        refused(host, FAILED, fragments, *options)


def refuses_huge_pages(host):
    """More than the host, or the node, has set aside; some, or beyond all memory."""
    for size, kib in (("2M", 2048), ("1G", 1 << 20)):
        pool = POOLS / f"hugepages-{kib}kB"
        if not pool.exists() or int((pool / "nr_overcommit_hugepages").read_text()):
            raise Skip(f"no pool of huge pages of {size} that ends")
        for more in (2048, align(2 * total_mib(), 1024)):
            mem = f"{(free_huge_pages(kib) * kib >> 10) + more}M,hugepages={size}"
            refused(host, FAILED, ["huge pages", "nr_hugepages"], "--mem", mem)
            refused(host, FAILED, ["huge pages", "nr_hugepages"], "--mem", f"{mem},numa=0")


def align(value, to):
    return -(-value // to) * to


CASES = {
    "pin": pin,
    "refuses-huge-pages": refuses_huge_pages,
    "refuses-placement": refuses_placement,
}
