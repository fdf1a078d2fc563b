# SPDX-License-Identifier: MIT
"""A guest's frames as the host's kernel sees and handles them at its interface."""

import errno
import os
import socket
import subprocess
import sys
import time

from cases import check
from cases_machine import stop, wait_for
from cases_net import ETH_TYPE, MAC, TIMEOUT_S, add_tap, enter_namespace, exchange

FRAMES = 200
SO_RCVBUFFORCE = 33
ETH_P_ALL = 3
READER = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../net/pcapng.py")


def listen(name, protocol):
    """Not bound at once, or frames of other interfaces would be there."""
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    link.bind((name, protocol))
    link.settimeout(TIMEOUT_S)
    return link


def wait_for_port(name):
    """The kernel takes up to a second to forward frames from a port."""
    end = time.monotonic() + TIMEOUT_S
    while "state forwarding" not in output("bridge", "link", "show", "dev", name):
        check(time.monotonic() < end, f"{name} forwards nothing")
        time.sleep(0.02)


def heard(link):
    """How many of the guest's frames, in and out, wait there."""
    link.settimeout(0.5)
    count = 0
    while True:
        try:
            count += link.recv(4096)[12:14] == ETH_TYPE.to_bytes(2, "big")
        except TimeoutError:
            return count
        except OSError as error:  # the interface is gone; what it heard is not
            check(error.errno == errno.ENETDOWN, error)


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def watched(host):
    """All at once: the guest notices nothing, the monitor and the capture have every frame."""
    enter_namespace(*add_tap(), "link add br0 type bridge", "link set br0 up")
    pcap = host.tmp / "pcap"
    process = host.start("net", "--net", f"tap=tap0,bridge=br0,mac={MAC},monitor=mon0,"
                         f"pcap={pcap},guard=mac,isolated", cmdline=f"frames={FRAMES}")
    try:
        wait_for(process, b"mac .*\n")
        wait_for_port("tap0")
        monitor = listen("mon0", ETH_P_ALL)
        exchange(listen("br0", ETH_TYPE), FRAMES)
        check("FAIL" not in wait_for(process, b"PASS\n"), "the guest failed")
        check(process.wait(TIMEOUT_S) == 0, "status")
        check(not process.stderr.read(), "a message")
    finally:
        stop(process)
    count = heard(monitor)
    check(count == 2 * FRAMES, f"the monitor saw {count} frames of {2 * FRAMES}")
    lines = output(sys.executable, READER, pcap).splitlines()
    for way in ("in", "out"):
        count = sum(line.startswith(f"frame {way} ") and "88b5" in line[:100] for line in lines)
        check(count == FRAMES, f"{count} frames {way} in the file")
    check("mon0" not in output("ip", "link"), "the monitor is there still")
    check("clsact" not in output("tc", "qdisc", "show", "dev", "tap0"), "tc at the TAP")


CASES = {
    "net-watched": watched,
}
