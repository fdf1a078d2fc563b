# SPDX-License-Identifier: MIT
"""Two guests and the host on one bridge; who moves the frames; guests behind NAT and passt."""

import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import time

import pytest

from vm import CMDLINE, MINIVMM, SLOW

MIB = 1 << 20
# What goes over a connection: emulated processors move some MiB a second.
MUCH_MIB, SOME_MIB = (1024, 16) if SLOW == 1 else (256, 4)


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
    report = json.loads(first.check("iperf3 -c %s -n %dM -i 0 -J" % (address(3), MUCH_MIB),
                                    60 * SLOW))
    # what is in the two sockets' buffers when the sender is done is not counted any more
    assert report["end"]["sum_received"]["bytes"] >= MUCH_MIB * MIB * 0.95
    for vm in guests:
        counters = vm.check("ip -s link show eth0")
        assert re.search(r"RX:.*\n\s+\d+\s+\d+\s+0\s", counters), counters
        assert re.search(r"TX:.*\n\s+\d+\s+\d+\s+0\s", counters), counters
        vm.poweroff()
    assert set(os.listdir("/sys/class/net")) == links


# Take one connection at port 7000 and print what came, as sha256sum does, and from where.
TAKE = """
import hashlib, socket
server = socket.create_server(("%s", 7000))
print("listening", flush=True)
link, address = server.accept()
with link.makefile("rb") as stream:
    print(hashlib.sha256(stream.read()).hexdigest(), address[0])
"""
# Take what comes to port 7001, to the end; then give it back to who asks at port 7002.
ECHO = """
import socket
servers = [socket.create_server(("10.77.0.1", port)) for port in (7001, 7002)]
print("listening", flush=True)
with servers[0].accept()[0].makefile("rb") as stream:
    data = stream.read()
servers[1].accept()[0].sendall(data)
"""


@contextlib.contextmanager
def serving(code, prefix=()):
    """A server in Python, once it listens."""
    with subprocess.Popen([*prefix, "python3", "-c", code], stdout=subprocess.PIPE,
                          text=True) as server:
        try:
            assert server.stdout.readline() == "listening\n"
            yield server
        finally:
            server.kill()


def echo(guest):
    """Whole data there and back."""
    with serving(ECHO) as server:
        guest.check("head -c %dM /dev/urandom >/run/data;"
                    "cat /run/data >/dev/tcp/10.77.0.1/7001;"
                    "cat </dev/tcp/10.77.0.1/7002 | cmp - /run/data" % SOME_MIB, 60 * SLOW)
        server.wait(30 * SLOW)


def give(guest, prefix, address, mib):
    """From the guest to a server at 192.0.2.1: what was sent and what came, as sums, and whence."""
    with serving(TAKE % address, prefix) as server:
        given = guest.check("head -c %dM /dev/urandom >/run/data; sha256sum </run/data; "
                            "cat /run/data >/dev/tcp/192.0.2.1/7000" % mib, 60 * SLOW)
        return [given.split()[0], *server.communicate(timeout=30 * SLOW)[0].split()]


@contextlib.contextmanager
def listening(*command):
    """A server at iperf3's port."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            while b":5201 " not in subprocess.check_output(["ss", "-ltn"]):
                time.sleep(0.2)
            yield
        finally:
            server.kill()


def iperf(guest, *args):
    """What came, of one connection or several, to the host or from it (-R)."""
    with listening("iperf3", "-s", "-1"):
        report = json.loads(guest.check("iperf3 -c 10.77.0.1 -i 0 -J %s" % " ".join(args),
                                        60 * SLOW))
    return report["end"]["sum_received"]


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
        assert iperf(guest, "-n %dM" % SOME_MIB, "-P 4", direction)["bytes"] >= SOME_MIB * MIB / 2


@contextlib.contextmanager
def tcpdump(interface, *what):
    """A list, which afterwards has a line for each packet it saw."""
    lines = []
    with subprocess.Popen(["tcpdump", "-n", "--immediate-mode", "-i", interface, *what], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            while "listening on" not in process.stderr.readline():
                assert process.poll() is None, "no tcpdump"
            yield lines
        finally:
            process.terminate()
            lines += process.communicate(timeout=30 * SLOW)[0].splitlines()


CARRIER = "for i in $(seq 30); do grep -q %d /sys/class/net/eth0/carrier && break; sleep 1; done"


@pytest.mark.skipif(MINIVMM == "qemu", reason="of minivmm's own options")
@pytest.mark.parametrize("vhost", ["on", "off"])
def test_who_moves_the_frames(boot, bridge, vhost):
    """The same to be seen in the guest, whoever it is, and at its monitor port: over a reboot, and
    to the TAP's end."""
    if vhost == "on" and not os.path.exists("/dev/vhost-net"):
        pytest.skip("no /dev/vhost-net")
    threads = kernel_threads()
    guest = boot("bzImage", cmdline=CMDLINE + " net.ifnames=0", reboots=True,
                 nets=["bridge=%s,tap=moved,queues=2,monitor=watch0,vhost=%s" % (bridge, vhost)],
                 options=["--name", "moved"])
    up = "ip addr add 10.77.0.2/24 dev eth0 && ip link set eth0 up"
    guest.check(up)
    assert kernel_threads() == threads + (2 if vhost == "on" else 0)
    with tcpdump("watch0", "icmp") as packets:
        for pairs in (2, 1):
            guest.check("ethtool -L eth0 combined %d" % pairs)
            both_ways(guest)
    for kind in ("request", "reply"):
        assert sum("ICMP echo " + kind in line for line in packets) >= 6, packets
    for queue in ("input.1", "output.1"):
        assert int(guest.check("awk '/virtio.*-%s/ {print $2}' /proc/interrupts" % queue)) > 0
    nic = listed("moved")
    assert nic["path"] == ("vhost" if vhost == "on" else "user")
    assert min(nic["rx"]["bytes"], nic["tx"]["bytes"]) > 2 * SOME_MIB * MIB
    guest.send("reboot -f\n")
    guest.login()
    guest.check(up)
    guest.check("ethtool -L eth0 combined 2")
    echo(guest)
    subprocess.run(["ip", "link", "set", "moved", "down"], check=True)
    guest.check(CARRIER % 0)
    subprocess.run(["ip", "link", "set", "moved", "up"], check=True)
    guest.check(CARRIER % 1)
    echo(guest)
    subprocess.run(["ip", "link", "del", "moved"], check=True)
    guest.expect("net0: interface moved is gone: link down for the guest\n", 10 * SLOW)
    guest.check("grep -q 0 /sys/class/net/eth0/carrier")
    guest.check("ip link set eth0 down && ip link set eth0 up")
    guest.poweroff()
    assert kernel_threads() == threads


def connected(boot, bridge, vhost, options=""):
    """A guest that reaches the host."""
    if vhost == "on" and not os.path.exists("/dev/vhost-net"):
        pytest.skip("no /dev/vhost-net")
    guest = boot("bzImage", cmdline=CMDLINE + " net.ifnames=0",
                 nets=["bridge=%s,vhost=%s%s" % (bridge, vhost, options)])
    guest.check("ip addr add 10.77.0.2/24 dev eth0 && ip link set eth0 up")
    guest.check("ping -c 3 -i 0.2 -w 20 10.77.0.1", 30 * SLOW)
    return guest


@pytest.mark.long
@pytest.mark.skipif(MINIVMM == "qemu", reason="of minivmm's own options")
@pytest.mark.parametrize("vhost", ["on", "off"])
def test_rate(boot, bridge, vhost):
    """A connection is no faster than that, either way."""
    guest = connected(boot, bridge, vhost, ",rate=1M")
    for direction in ("", "-R"):
        received = iperf(guest, "-n 8M", direction)
        assert received["bytes"] > 6 * MIB
        assert received["bytes"] / received["seconds"] < 1.1 * MIB
    guest.poweroff()


TOGGLES = ("tx", "sg", "tso", "gso", "gro", "rx-gro-hw")
TOGGLE_S = float(os.environ.get("TOGGLE_S", "9.5"))
IPERF = ("(iperf3 -c 10.77.0.1 -t %d -i 0 --bidir -J >/run/report; echo $? >/run/status) "
         "</dev/null >/dev/null 2>&1 &")


def snmp_errors(text):
    """Segments that came damaged, by /proc/net/snmp."""
    names, values = [line.split() for line in text.splitlines() if line.startswith("Tcp:")]
    return int(values[names.index("InCsumErrors")])


@pytest.mark.long
@pytest.mark.skipif(MINIVMM == "qemu", reason="of minivmm's own options")
@pytest.mark.parametrize("vhost", ["on", "off"])
def test_offloads_come_and_go(boot, bridge, vhost):
    """Every combination of the guest's offloads while a connection sends both ways."""
    guest = connected(boot, bridge, vhost)
    combinations = list(itertools.product(("on", "off"), repeat=len(TOGGLES)))
    duration = round(TOGGLE_S * len(combinations))
    seen = set()
    with listening("iperf3", "-s", "-1"):
        guest.send(IPERF % duration + "\n")
        until = time.monotonic()
        for states in combinations:
            words = " ".join(" ".join(pair) for pair in zip(TOGGLES, states))
            guest.run("ethtool -K eth0 %s" % words)  # 1 if one depends on another
            seen.add(guest.check("ethtool -k eth0 | grep -v fixed"))
            until += TOGGLE_S
            time.sleep(max(0, until - time.monotonic()))
        guest.check("for i in $(seq 120); do [ -e /run/status ] && break; sleep 1; done", 60 * SLOW)
    assert guest.check("cat /run/status").strip() == "0"
    end = json.loads(guest.check("cat /run/report"))["end"]
    for name in ("sum_received", "sum_received_bidir_reverse"):
        assert end[name]["seconds"] >= duration - 1 and end[name]["bytes"] > 1 << 20, end[name]
    assert len(seen) > 16, seen
    assert snmp_errors(guest.check("cat /proc/net/snmp")) == 0
    with open("/proc/net/snmp", encoding="utf-8") as file:
        assert snmp_errors(file.read()) == 0
    guest.poweroff()


@pytest.mark.skipif(MINIVMM == "qemu", reason="of minivmm's own commands")
@pytest.mark.skipif(not shutil.which("dnsmasq"), reason="dnsmasq is not installed")
def test_guest_reaches_the_world(boot, uplink):
    """The README's two commands: an address by DHCP, and servers beyond the host by NAT."""
    host, other = uplink
    subprocess.run([*host, MINIVMM, "bridge", "up", "br0", "--address", "10.0.0.1/24", "--nat",
                    "--dhcp"], check=True)
    try:
        guest = boot("cloud", cmdline=CMDLINE + " panic=-1 net.ifnames=0", prefix=host,
                     nets=["bridge=br0"])
        guest.check("for i in $(seq 60); do ip -4 addr show eth0 | grep -q inet && break; sleep 1;"
                    " done", 80 * SLOW)
        assert re.search(r"inet 10\.0\.0\.\d+/24", guest.check("ip -4 addr show eth0"))
        assert "default via 10.0.0.1 dev eth0" in guest.check("ip route")
        given, came, source = give(guest, other, "0.0.0.0", 4)
        assert given == came and source == "192.0.2.2"
        guest.poweroff()
    finally:
        subprocess.run([*host, MINIVMM, "bridge", "down", "br0"], check=True)


# In the namespace. Send 16 MiB to port 2222, to the end; print their sum, and what is answered.
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
    given, came, _ = give(guest, namespace, "127.0.0.1", 16)
    assert given == came
    guest.check("(systemd-socket-activate -l 22 --inetd -a sha256sum 2>/dev/null &); "
                "until ss -ltn | grep -q ':22 '; do sleep 0.2; done")
    given, got, _ = subprocess.check_output([*namespace, "python3", "-c", GIVE], text=True,
                                            timeout=60 * SLOW).split()
    assert given == got
    guest.poweroff()
