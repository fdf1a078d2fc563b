#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
One test of --net user: a small guest behind passt, in a network namespace that ends with the test.

    user.py --minivmm build/minivmm --guests build/tests/guest user-echo

Exit status 0, 1, or 77 where this cannot be told here (the reason is printed).
"""

import ctypes
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[0:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "guest")]

import harness
from cases import Failure, Skip, check, check_one_line, need
from cases_machine import stop, wait_for

CLONE_NEWNET = 0x40000000
ADDRESS, ROUTER = "192.0.2.2", "192.0.2.1"  # for documentation
SERVER_PORT = 7000
TIMEOUT_S = 20
# passt takes its addresses from the interface that leads outside
NAMESPACE = [
    "link set lo up",
    "link add outside type bridge",
    f"addr add {ADDRESS}/24 dev outside",
    "link set outside up",
    f"route add default via {ROUTER}",
]
# /dev/kvm, and no more, for who is not root
DEVICES = """
mount -t tmpfs none /dev
mknod -m 666 /dev/kvm c 10 232
mknod -m 666 /dev/null c 1 3
mknod -m 666 /dev/urandom c 1 9
exec setpriv --reuid 65533 --regid 65533 --clear-groups --no-new-privs "$@"
"""
UNPRIVILEGED = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", DEVICES, "sh"]


def enter_namespace():
    if os.geteuid() != 0:
        raise Skip("needs root, for a namespace of its own")
    need("ip")
    need("passt")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise Skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    for command in NAMESPACE:
        subprocess.run(["ip", *command.split()], check=True)


def udp_socket():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(TIMEOUT_S)
    return sock


def children(pid):
    return [int(word) for word in
            pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def passt_of(process):
    """The process that minivmm started."""
    found = children(process.pid)
    check(len(found) == 1, f"minivmm's processes: {found}")
    name = pathlib.Path(f"/proc/{found[0]}/comm").read_text()
    check(name.startswith("passt"), name)
    return found[0]


def alive(pid):
    try:
        return "Z" not in pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except FileNotFoundError:
        return False


def ends(pid):
    start = time.monotonic()
    while alive(pid):
        check(time.monotonic() - start < 5, "passt lives on")
        time.sleep(0.01)


class Guest:
    """A guest that has its address and has greeted our server, and echoes."""

    def __init__(self, host, net, prefix=()):
        self.server = udp_socket()
        self.server.bind(("127.0.0.1", SERVER_PORT))
        self.process = subprocess.Popen(
            [*prefix, *host.command("user", "--net", net, cmdline=f"server={SERVER_PORT}")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __enter__(self):
        try:
            text = wait_for(self.process, b"mtu .*\n")
            word, peer = self.server.recvfrom(100)
            check(word == b"hello", word)
            self.server.sendto(b"welcome", peer)
            text += wait_for(self.process, b"ready\n")
        except TimeoutError:
            self.__exit__()
            raise Failure("the guest's greeting did not come") from None
        except Failure:
            self.__exit__()
            raise
        self.text = text
        return self

    def __exit__(self, *_):
        self.server.close()
        stop(self.process)

    def end(self, last_words=b""):
        """What minivmm said."""
        wait_for(self.process, last_words + b"PASS\n")
        check(self.process.wait(TIMEOUT_S) == 0, self.process.returncode)
        return self.process.stderr.read().decode()


def exchange(port, sizes, window=1):
    """Datagrams of these sizes to the guest by the forwarded port, and each back as it was."""
    link = udp_socket()
    link.connect(("127.0.0.1", port))
    data = [random.Random(number).randbytes(size) for number, size in enumerate(sizes)]
    for first in range(0, len(data), window):
        for datagram in data[first:first + window]:
            link.send(datagram)
        for datagram in data[first:first + window]:
            try:
                got = link.recv(1 << 16)
            except TimeoutError:
                raise Failure(f"{len(datagram)} bytes did not come back") from None
            check(got == datagram, f"{len(datagram)} bytes came back as {len(got)} others")
    return link


def echo(host, prefix=()):
    """Address by DHCP; a server on the host's loopback; a host's port forwarded; any size."""
    enter_namespace()
    with Guest(host, "user,hostfwd=udp:127.0.0.1:7777:7", prefix) as guest:
        for line in (f"address {ADDRESS}\r?\n", f"router {ROUTER}\r?\n", "mtu 16384\r?\n",
                     "server says welcome\r?\n"):
            check(re.search(line, guest.text), guest.text)
        exchange(7777, [1, 2, 18, 19, 1000, 1472, 1473, 4000, 20000, 36000, 65000])
        exchange(7777, [random.Random(i).randrange(1, 1400) for i in range(2000)], window=4)
        exchange(7777, [random.Random(i).randrange(1, 60000) for i in range(200)])
        passt = passt_of(guest.process)
        exchange(7777, [3]).send(b"end")
        said = guest.end()
        check(not said, said)
        ends(passt)


def echo_rootless(host):
    need("setpriv")
    echo(host, UNPRIVILEGED)


def passt_killed(host):
    """The guest's link goes down, the guest lives, and one line says so."""
    enter_namespace()
    with Guest(host, "user") as guest:
        os.kill(passt_of(guest.process), signal.SIGKILL)
        said = guest.end(b"link down\n")
        check(said == "minivmm: net0: passt was killed by signal 9: link down for the guest\n",
              said)


def minivmm_killed(host):
    """passt does not stay behind."""
    enter_namespace()
    with Guest(host, "user") as guest:
        passt = passt_of(guest.process)
        guest.process.kill()
        ends(passt)


def with_socket(host):
    """A passt that somebody else started."""
    enter_namespace()
    path = host.tmp / "passt.socket"
    os.chmod(host.tmp, 0o777)  # passt becomes nobody
    passt = subprocess.Popen(["passt", "--foreground", "--one-off", "--quiet", "--socket", path,
                              "--udp-ports", "7777:7"], stderr=subprocess.DEVNULL)
    try:
        start = time.monotonic()
        while not path.exists():
            check(time.monotonic() - start < TIMEOUT_S, "passt did not start")
            time.sleep(0.01)
        with Guest(host, f"user,socket={path}") as guest:
            check(not children(guest.process.pid), "minivmm started something")
            exchange(7777, [1, 1000, 65000]).send(b"end")
            said = guest.end()
            check(not said, said)
        passt.wait(5)
    finally:
        passt.kill()
        passt.wait()


def refused(host, net, *words, env=None):
    result = host.run_command(host.command("hello", "--net", net), timeout_s=20, env=env)
    check_one_line(result, 1, words)
    check(not result.out, result)


def refusals(host):
    enter_namespace()
    tcp = socket.socket()
    tcp.bind(("127.0.0.1", 2222))
    tcp.listen()
    udp = udp_socket()
    udp.bind(("0.0.0.0", 2223))
    refused(host, "user,hostfwd=tcp:2222:22", "hostfwd=tcp:2222:22", "Address already in use")
    refused(host, "user,hostfwd=tcp:127.0.0.1:2222:22", "hostfwd=tcp:127.0.0.1:2222:22", "in use")
    refused(host, "user,hostfwd=tcp:5000:1,hostfwd=udp:2223:22", "hostfwd=udp:2223:22", "in use")
    refused(host, "user,hostfwd=tcp:198.51.100.7:2224:22", "198.51.100.7", "of this host")
    refused(host, f"user,socket={host.tmp}/none", f"{host.tmp}/none", "passt -f -s")
    refused(host, "user", "passt", "apt install passt", env={**os.environ, "PATH": "/nonexistent"})
    tcp.close()
    udp.close()
    subprocess.run(["ip", "route", "del", "default"], check=True)
    refused(host, "user", "passt ended with status 1", "interface")


CASES = {
    "user-echo": echo,
    "user-echo-rootless": echo_rootless,
    "user-passt-killed": passt_killed,
    "user-minivmm-killed": minivmm_killed,
    "user-socket": with_socket,
    "user-refusals": refusals,
}


if __name__ == "__main__":
    sys.exit(harness.main(__doc__, CASES))
