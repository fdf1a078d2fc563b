# SPDX-License-Identifier: MIT
"""virtio-net on a TAP, in a network namespace that ends with the test."""

import ctypes
import os
import random
import re
import socket
import subprocess

from cases_disk import exits
from cases_machine import stop, wait_for
from cases import Failure, Skip, check, need

CLONE_NEWNET = 0x40000000
ETH_TYPE = 0x88B5  # for experiments
MAC = "52:54:00:ab:cd:ef"
WINDOW = 32
TIMEOUT_S = 20


def enter_namespace():
    if os.geteuid() != 0:
        raise Skip("needs root, for a namespace of its own")
    if not os.path.exists("/dev/net/tun"):
        raise Skip("no /dev/net/tun")
    need("ip")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise Skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    for command in ("tuntap add tap0 mode tap", "link set tap0 up"):
        subprocess.run(["ip", *command.split()], check=True)


def frame(number, source):
    size = random.Random(number).randrange(46, 1500)
    body = number.to_bytes(4, "big") + bytes((number + i) % 256 for i in range(size - 4))
    return bytes.fromhex(MAC.replace(":", "")) + source + ETH_TYPE.to_bytes(2, "big") + body


def exchange(link, frames):
    """Send numbered frames, and expect each back in order with the addresses exchanged."""
    source = link.getsockname()[4]
    sent = 0
    for number in range(frames):
        while sent < min(frames, number + WINDOW):
            link.send(frame(sent, source))
            sent += 1
        want = frame(number, source)
        want = source + want[:6] + want[12:]
        try:
            got = link.recv(4096)
        except TimeoutError:
            raise Failure(f"frame {number} did not come back") from None
        check(got == want, f"frame {number} came back as {got[:40].hex()}..., "
                           f"{len(got)} bytes, not {len(want)}")


def echo(host, frames):
    process = host.start("net", "--stats", "--net", f"tap=tap0,mac={MAC}",
                         cmdline=f"frames={frames}")
    # wait_for stops the process if nothing comes; the socket hears only the guest's frames
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_TYPE))
    try:
        link.bind(("tap0", ETH_TYPE))
        link.settimeout(TIMEOUT_S)
        text = wait_for(process, b"mac .*\n")
        check(MAC in text, text)
        exchange(link, frames)
        check("FAIL" not in wait_for(process, b"PASS\n"), "the guest failed")
        check(process.wait(TIMEOUT_S) == 0, "status")
        return process.stderr.read().decode()
    finally:
        link.close()
        stop(process)


def net(host):
    """Frames of every size arrive whole, both ways, and cost no exit to user space."""
    enter_namespace()
    total = {}
    for frames in (100, 10000):
        counts = exits(echo(host, frames))
        total[frames] = {key: count for key, count in counts.items() if key != ("pio-out", 0x3F8)}
    check(total[100] == total[10000], total)
    check(re.search(r"^\d+: tap0: ", subprocess.run(["ip", "link"], capture_output=True, text=True,
                                                    check=True).stdout, re.MULTILINE),
          "the TAP, which was not minivmm's, is gone")
    print(f"{sum(total[10000].values())} exits in all, for 10,000 frames each way or 100")


CASES = {
    "net": net,
}
