# SPDX-License-Identifier: MIT
"""--stats: a table while the guest runs, and JSON at its end; minivmm top; --timeline: JSON."""

import json
import os
import re
import signal
import subprocess

import pytest

from vm import CMDLINE, MINIVMM, SLOW

MARK = os.path.join(os.path.dirname(MINIVMM), "tests/boot/mark")


def command(*words):
    return subprocess.run([MINIVMM, *words], check=True, stdout=subprocess.PIPE, text=True,
                          timeout=60 * SLOW).stdout


def written():
    """The machine's pid, and the bytes it wrote to its disk so far, as minivmm top has them."""
    machine, = json.loads(command("top", "--json", "counted"))
    return machine["pid"], machine["stats"]["devices"][0]["requests"]["write"]["bytes"]


def test_stats(boot, tmp_path):
    path = tmp_path / "stats.json"
    vm = boot("bzImage", cmdline=CMDLINE, options=["--stats=%s" % path, "--name", "counted"])
    vm.signal(signal.SIGUSR1)
    vm.expect(r"0 +pio-out +0x3f8 +\d+ +\d+\n", SLOW)
    vm.expect(r"disk0 +0 +[1-9]\d* ", SLOW)
    vm.expect(r"disk0 +read +[1-9]\d* ", SLOW)
    pid, before = written()
    vm.check("dd if=/dev/zero of=/root/stats bs=1M count=4 oflag=direct status=none && "
             "rm /root/stats", 30 * SLOW)
    assert written()[1] >= before + (4 << 20)
    text = command("top", "--interval", "0.5", str(pid))
    assert re.match(r"counted, process %d\n" % pid, text)
    assert re.search(r"^  vcpu0 +[1-9]", text, re.MULTILINE)
    vm.poweroff()
    gone = subprocess.run([MINIVMM, "top", "counted"], stderr=subprocess.PIPE, text=True,
                          check=False, timeout=60 * SLOW)
    assert gone.returncode == 1 and "no machine of this name" in gone.stderr
    report = json.loads(path.read_text())
    assert sum(exit["count"] for exit in report["vcpus"][0]["exits"]) > 0
    assert report["vcpus"][0]["kvm"]["exits"] > 0
    disk = report["devices"][0]
    assert disk["device"] == "disk0"
    reads, writes = disk["requests"]["read"], disk["requests"]["write"]
    assert reads["latency-ns"]["count"] > 0 and reads["errors"] == writes["errors"] == 0
    assert writes["bytes"] >= 4 << 20
    for op in (reads, writes):
        assert sum(count for _, count in op["latency-ns"]["buckets"]) == op["latency-ns"]["count"]
        assert 0 < op["latency-ns"]["p50"] <= op["latency-ns"]["p99"]
    queue = disk["queues"][0]
    assert 0 < queue["irqs"] <= queue["batches"]["count"] <= queue["requests"]
    assert queue["batches"]["sum"] == queue["requests"]
    assert queue["bytes-from-guest"] > writes["bytes"]


def test_timeline(boot, tmp_path):
    """What happened is there in the order in which it had to, and the guest's mark at its place."""
    path = tmp_path / "timeline.json"
    if not os.path.exists(MARK):
        pytest.skip("no %s (ninja tests/boot/mark)" % MARK)
    vm = boot("cloud", options=["--timeline=%s" % path, "--disk", MARK + ",format=raw,readonly"])
    vm.check("cat /dev/vdb >/run/mark; chmod +x /run/mark; mount -o remount,exec /run;"
             " /run/mark 0xcd", 10 * SLOW)
    vm.poweroff()
    events = json.loads(path.read_text())["events"]
    times = [event["ns"] for event in events]
    assert times[0] == 0 and times == sorted(times)
    order = ["exec", "KVM is open", "files, disks and networks are open", "memory and vCPUs are made",
             "devices are made", "the kernel is loaded", "vCPU 0 enters the guest",
             "vCPU 0's first exit", "disk0: driver is ready", "disk0: first read", "mark 0xcd",
             "the guest powers off", "vCPUs are stopped", "all is given back"]
    seen = [event["event"] for event in events]
    assert [what for what in seen if what in order] == order
    assert {"console: first byte", "console: first line", "disk0: first write"} <= set(seen)
