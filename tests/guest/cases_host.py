# SPDX-License-Identifier: MIT
"""Where and how the guest runs on this host: processors, pages, idling; and what there is not."""

import os
import pathlib
import time

from cases import Skip, check
from cases_machine import READ_TIMEOUT_S, mappings, stop, wait_for
from cases_refusals import FAILED, MIB, refused

RAM_KIB = 128 << 10
THP = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
POOLS = pathlib.Path("/sys/kernel/mm/hugepages")
NODE0 = pathlib.Path("/sys/devices/system/node/node0")


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
        for name in ("minivmm", "disk0"):
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


def ram(pid):
    """The mappings of the guest's memory, which may be of two kinds of page."""
    found = [m for m in mappings(pid) if m["Size"] in (RAM_KIB, 112 << 10, 16 << 10)]
    check(sum(m["Size"] for m in found) == RAM_KIB, found)
    return found


def with_memory(host, options, look):
    process = host.start("echo", "--mem", f"{RAM_KIB >> 10}M,{options}")
    try:
        wait_for(process, b"ready\n")
        look(process.pid)
        end(process)
    finally:
        stop(process)


def rss_kib(pid):
    return sum(m["Rss"] for m in ram(pid))


def huge_kib(pid):
    return sum(m["AnonHugePages"] for m in ram(pid))


def memory_pages(host):
    """Transparent huge pages: none, or all."""
    if not THP.exists() or "[never]" in THP.read_text():
        raise Skip("no transparent huge pages here")
    with_memory(host, "hugepages=off,prefault", lambda pid: check(huge_kib(pid) == 0, "has some"))
    with_memory(host, "hugepages=thp,prefault", lambda pid: check(huge_kib(pid) > 0, "has none"))


def memory_pool(host):
    """Huge pages of the pool."""
    free = free_huge_pages(2048)
    if free < RAM_KIB // 2048:
        raise Skip(f"{free} huge pages of 2M are free here; {RAM_KIB // 2048} are needed")
    for options in ("", ",prefault", ",shared"):
        with_memory(host, "hugepages=2M" + options, lambda pid: check(
            all(m["KernelPageSize"] == 2048 for m in ram(pid)), "small pages"))


def memory_prefault(host):
    with_memory(host, "prefault", lambda pid: check(rss_kib(pid) == RAM_KIB, rss_kib(pid)))
    with_memory(host, "prefault=off", lambda pid: check(rss_kib(pid) < RAM_KIB, rss_kib(pid)))


def memory_node(host):
    if not NODE0.exists():
        raise Skip("no NUMA nodes here")

    def look(pid):
        text = pathlib.Path(f"/proc/{pid}/numa_maps").read_text()
        check(" bind:0 " in text, text)

    with_memory(host, "numa=0", look)
    with_memory(host, "numa=0,prefault", look)


def idle_exits(host):
    """An idle processor that keeps the host's, and does what it did before."""
    result = host.run("hello", "--cpu-idle-exits", "off", cmdline="answer=42")
    if "cannot let a guest idle" in result.err:
        raise Skip(result.err.strip())
    host.passes("hello", "--cpu-idle-exits", "off", cmdline="answer=42")
    host.passes("hello", "--cpu-idle-exits", "on", cmdline="answer=42")


def halt_poll(host):
    for us in (0, 50, 1000000):
        result = host.run("hello", "--halt-poll", us)
        if "KVM refuses it" in result.err:
            raise Skip(result.err.strip())
        check(result.status == 0 and not result.err, result)


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
    "halt-poll": halt_poll,
    "idle-exits": idle_exits,
    "memory-node": memory_node,
    "memory-pages": memory_pages,
    "memory-pool": memory_pool,
    "memory-prefault": memory_prefault,
    "pin": pin,
    "refuses-huge-pages": refuses_huge_pages,
    "refuses-placement": refuses_placement,
}
