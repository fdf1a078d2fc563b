# SPDX-License-Identifier: MIT
"""Where listing.py's machines run, and what it, ip and bridge say of them."""

import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import re
import struct
import subprocess
import time

from cases import Failure, Skip, check, need
from cases_machine import stop, wait_for
from cases_net import CLONE_NEWNET, TIMEOUT_S

CLONE_NEWNS = 0x00020000
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 2, 0x1000, 0x4000
NOBODY = 65534
RUN = pathlib.Path("/run/minivmm")


def sh(command):
    subprocess.run(["sh", "-ec", command], check=True)


def unshare(flags):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        raise Skip(f"no namespaces: {os.strerror(ctypes.get_errno())}")


def enter():
    """A network with a bridge, a /run without machines, and devices that anybody may use."""
    if os.geteuid() != 0:
        raise Skip("needs root, for namespaces of its own")
    if not os.path.exists("/dev/net/tun"):
        raise Skip("no /dev/net/tun")
    need("ip")
    need("bridge")
    unshare(CLONE_NEWNS | CLONE_NEWNET)
    sh("mount --make-rprivate /; mount -t tmpfs -o mode=755 none /run; mkdir /run/user;"
       "mknod -m 666 /run/kvm c 10 232; mount --bind /run/kvm /dev/kvm;"
       "mknod -m 666 /run/tun c 10 200; mount --bind /run/tun /dev/net/tun;"
       "ip link set lo up; ip link add br0 type bridge; ip link set br0 mtu 1400 up")


@contextlib.contextmanager
def machine(host, *options, guest="echo", cmdline="", ready=b"ready\n", **kwargs):
    """One that runs until the end of the block."""
    process = subprocess.Popen(host.command(guest, *options, cmdline=cmdline),
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, **kwargs)
    try:
        wait_for(process, ready)
        yield process
    finally:
        stop(process)


def net(host, *args, status=0, message="", **kwargs):
    """`minivmm net`'s standard output, if all else is as expected."""
    done = subprocess.run([host.minivmm, "net", *args], capture_output=True, check=False,
                          timeout=TIMEOUT_S, **kwargs)
    err = done.stderr.decode()
    check(done.returncode == status, f"status {done.returncode}: {err}")
    if message:
        check(re.fullmatch(r"minivmm: [^\n]+\n", err) and message in err, err)
    else:
        check(not err, err)
    return done.stdout.decode()


def listed(host, *args, **kwargs):
    return json.loads(net(host, "--json", *args, **kwargs))


def names(host, **kwargs):
    return [vm["name"] for vm in listed(host, **kwargs)]


def nic_of(host, name, index=0):
    found = listed(host, name)
    check(len(found) == 1, found)
    return found[0]["nics"][index]


def as_user(uid, **environment):
    """How subprocess runs something as somebody else."""
    return {"user": uid, "group": uid, "extra_groups": [],
            "env": {"PATH": os.environ["PATH"], **environment}}


def ip(*args):
    return json.loads(subprocess.run(["ip", "-j", *args], capture_output=True, check=True).stdout)


def eventually(condition, what):
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        check(time.monotonic() < deadline, what)
        time.sleep(0.05)


def host_counts(name):
    stats = ip("-s", "link", "show", name)[0]["stats64"]
    return {way: {key: stats[way][key] for key in ("packets", "bytes", "dropped")}
            for way in ("rx", "tx")}


def settled_counts(host, vm, tap):
    """The NIC and ip's counters, of an instant at which nothing came between."""
    for _ in range(50):
        before = host_counts(tap)
        nic = nic_of(host, vm)
        if host_counts(tap) == before:
            return nic, before
        time.sleep(0.1)
    raise Failure("never quiet")


def open_tap(name):
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(),
                                           IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    return fd
