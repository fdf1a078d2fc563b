# SPDX-License-Identifier: MIT
"""--stats: a table while the guest runs, and JSON at its end."""

import json
import signal

from vm import CMDLINE, SLOW


def test_stats(boot, tmp_path):
    path = tmp_path / "stats.json"
    vm = boot("bzImage", cmdline=CMDLINE, options=["--stats=%s" % path])
    vm.signal(signal.SIGUSR1)
    vm.expect(r"0 +pio-out +0x3f8 +\d+ +\d+\n", SLOW)
    vm.expect(r"disk0 +0 +[1-9]\d* ", SLOW)
    vm.expect(r"disk0 +read +[1-9]\d* ", SLOW)
    vm.check("dd if=/dev/zero of=/root/stats bs=1M count=4 oflag=direct status=none && "
             "rm /root/stats", 30 * SLOW)
    vm.poweroff()
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
