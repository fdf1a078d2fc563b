# SPDX-License-Identifier: MIT
"""Two guests and the host on one bridge; a guest behind passt."""

import json
import os
import re
import shutil
import subprocess

import pytest

from vm import CMDLINE, MINIVMM, SLOW


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


# In the namespace. Take one connection at port 7000 and print what came, as sha256sum does.
TAKE = """
import hashlib, socket
server = socket.create_server(("127.0.0.1", 7000))
print("listening", flush=True)
with server.accept()[0].makefile("rb") as stream:
    print(hashlib.sha256(stream.read()).hexdigest())
"""
# Send 16 MiB to port 2222, to the end; print their sum, and what is answered.
GIVE = """
import hashlib, os, socket
data = os.urandom(16 << 20)
with socket.create_connection(("127.0.0.1", 2222)) as link:
    link.sendall(data)
    link.shutdown(socket.SHUT_WR)
    print(hashlib.sha256(data).hexdigest(), link.makefile().read())
"""


@pytest.mark.skipif(MINIVMM == "qemu", reason="of minivmm's own options")
@pytest.mark.skipif(not shutil.which("passt"), reason="passt is not installed")
def test_guest_behind_passt(boot, namespace):
    """An address by DHCP, a server of the host's, and a port of the host's that is the guest's."""
    guest = boot("bzImage", cmdline=CMDLINE + " net.ifnames=0", prefix=namespace,
                 nets=["user,hostfwd=tcp:2222:22"])
    guest.check("for i in $(seq 60); do ip -4 addr show eth0 | grep -q inet && break; sleep 1; done",
                80 * SLOW)
    assert re.search(r"mtu 16384(?s:.)*inet 192\.0\.2\.2/24", guest.check("ip -4 addr show eth0"))
    assert "default via 192.0.2.1 dev eth0" in guest.check("ip route")
    with subprocess.Popen([*namespace, "python3", "-c", TAKE], stdout=subprocess.PIPE,
                          text=True) as server:
        try:
            assert server.stdout.readline() == "listening\n"
            given = guest.check("head -c 16M /dev/urandom >/run/data; sha256sum </run/data; "
                                "cat /run/data >/dev/tcp/192.0.2.1/7000", 60 * SLOW)
            assert given.split()[0] == server.communicate(timeout=30 * SLOW)[0].strip()
        finally:
            server.kill()
    guest.check("(systemd-socket-activate -l 22 --inetd -a sha256sum 2>/dev/null &); "
                "until ss -ltn | grep -q ':22 '; do sleep 0.2; done")
    given, got, _ = subprocess.check_output([*namespace, "python3", "-c", GIVE], text=True,
                                            timeout=60 * SLOW).split()
    assert given == got
    guest.poweroff()
