# SPDX-License-Identifier: MIT
"""Two guests and the host on one bridge; who moves the frames; a guest behind passt."""

import json
import os
import re
import shutil
import subprocess
import time

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


# Use so many pairs of queues, as ethtool -L eth0 combined N does.
CHANNELS = """perl -e 'socket(S, 2, 2, 0); $c = pack("L9", 0x3d, (0) x 7, $ARGV[0]);
$r = pack("a16 Q x16", "eth0", unpack("Q", pack("P", $c))); ioctl(S, 0x8946, $r) or die $!' """
# Take what comes to port 7001, to the end; then give it back to who asks at port 7002.
ECHO = """
import socket
servers = [socket.create_server(("10.77.0.1", port)) for port in (7001, 7002)]
print("listening", flush=True)
with servers[0].accept()[0].makefile("rb") as stream:
    data = stream.read()
servers[1].accept()[0].sendall(data)
"""


def echo(guest):
    """Whole data there and back."""
    with subprocess.Popen(["python3", "-c", ECHO], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline() == "listening\n"
            guest.check("head -c 16M /dev/urandom >/run/data; cat /run/data >/dev/tcp/10.77.0.1/7001;"
                        "cat </dev/tcp/10.77.0.1/7002 | cmp - /run/data", 60 * SLOW)
            server.wait(30 * SLOW)
        finally:
            server.kill()


def iperf(guest, *args):
    """Bytes that came, of one connection or several, to the host or from it (-R)."""
    with subprocess.Popen(["iperf3", "-s", "-1"], stdout=subprocess.DEVNULL) as server:
        try:
            while b":5201 " not in subprocess.check_output(["ss", "-ltn"]):
                time.sleep(0.2)
            report = json.loads(guest.check("iperf3 -c 10.77.0.1 -i 0 -J %s" % " ".join(args),
                                            60 * SLOW))
        finally:
            server.kill()
    return report["end"]["sum_received"]["bytes"]


def listed(name):
    vms = json.loads(subprocess.check_output([MINIVMM, "net", "--json", name], text=True))
    return vms[0]["nics"][0]


def kernel_threads():
    """Those in which the kernel moves frames."""
    names = subprocess.check_output(["ps", "-eLo", "comm="], text=True).split()
    return len([name for name in names if name.startswith("vhost-")])


def both_ways(guest):
    """By whichever pairs of queues there are. iperf3 does not wait for the last bytes."""
    guest.check("ping -c 3 -i 0.2 -w 20 10.77.0.1", 30 * SLOW)
    echo(guest)
    for direction in ("", "-R"):
        assert iperf(guest, "-n 16M", "-P 4", direction) >= 8 << 20


@pytest.mark.skipif(MINIVMM == "qemu", reason="of minivmm's own options")
@pytest.mark.parametrize("vhost", ["on", "off"])
def test_who_moves_the_frames(boot, bridge, vhost):
    """The same to be seen in the guest, whoever it is: over a reboot, and to the TAP's end."""
    if vhost == "on" and not os.path.exists("/dev/vhost-net"):
        pytest.skip("no /dev/vhost-net")
    threads = kernel_threads()
    guest = boot("bzImage", cmdline=CMDLINE + " net.ifnames=0", reboots=True,
                 nets=["bridge=%s,tap=moved,queues=2,vhost=%s" % (bridge, vhost)],
                 options=["--name", "moved"])
    up = "ip addr add 10.77.0.2/24 dev eth0 && ip link set eth0 up"
    guest.check(up)
    assert kernel_threads() == threads + (2 if vhost == "on" else 0)
    for pairs in (2, 1):
        guest.check(CHANNELS + str(pairs))
        both_ways(guest)
    for queue in ("input.1", "output.1"):
        assert int(guest.check("awk '/virtio.*-%s/ {print $2}' /proc/interrupts" % queue)) > 0
    nic = listed("moved")
    assert nic["path"] == ("vhost" if vhost == "on" else "user")
    assert nic["rx"]["bytes"] > 32 << 20 and nic["tx"]["bytes"] > 32 << 20
    guest.send("reboot -f\n")
    guest.login()
    guest.check(up)
    guest.check(CHANNELS + "2")
    echo(guest)
    subprocess.run(["ip", "link", "set", "moved", "down"], check=True)
    guest.check("for i in $(seq 30); do grep -q 0 /sys/class/net/eth0/carrier && break; sleep 1; done")
    subprocess.run(["ip", "link", "set", "moved", "up"], check=True)
    guest.check("for i in $(seq 30); do grep -q 1 /sys/class/net/eth0/carrier && break; sleep 1; done")
    echo(guest)
    subprocess.run(["ip", "link", "del", "moved"], check=True)
    guest.expect("net0: interface moved is gone: link down for the guest\n", 10 * SLOW)
    guest.check("grep -q 0 /sys/class/net/eth0/carrier")
    guest.check("ip link set eth0 down && ip link set eth0 up")
    guest.poweroff()
    assert kernel_threads() == threads


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
