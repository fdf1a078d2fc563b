# SPDX-License-Identifier: MIT
"""Two guests and the host on one bridge."""

import json
import os
import re

from vm import CMDLINE, SLOW


def test_two_guests_on_one_bridge(boot, images, more_images, bridge):
    links = set(os.listdir("/sys/class/net"))
    guests = []
    for number, place in ((2, images), (3, more_images)):
        vm = boot("bzImage", cmdline=CMDLINE + " net.ifnames=0",
                  disks=["%s/debian.qcow2" % place],
                  nets=["bridge=%s,mac=52:54:00:77:00:%02x" % (bridge, number)])
        vm.check("ip addr add 10.77.0.%d/24 dev eth0 && ip link set eth0 up" % number)
        guests.append(vm)
    first, second = guests
    address = lambda number: "10.77.0.%d" % number
    for vm, others in ((first, (1, 3)), (second, (1, 2))):
        for other in others:
            vm.check("ping -c 3 -i 0.2 -w 20 %s" % address(other), 30 * SLOW)
    second.check("iperf3 -s -D")
    report = json.loads(first.check("iperf3 -c %s -n 1G -i 0 -J" % address(3), 60 * SLOW))
    assert report["end"]["sum_received"]["bytes"] >= (1 << 30) * 0.99
    for vm in guests:
        counters = vm.check("ip -s link show eth0")
        assert re.search(r"RX:.*\n\s+\d+\s+\d+\s+0\s", counters), counters
        assert re.search(r"TX:.*\n\s+\d+\s+\d+\s+0\s", counters), counters
        vm.poweroff()
    assert set(os.listdir("/sys/class/net")) == links
