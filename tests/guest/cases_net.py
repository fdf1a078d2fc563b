# SPDX-License-Identifier: MIT
"""virtio-net on a TAP, in a network namespace that ends with the test."""

import contextlib
import ctypes
import functools
import os
import random
import re
import socket
import struct
import subprocess
import threading
import time

from cases_disk import exits
from cases_machine import stop, wait_for
from cases import Failure, Skip, check, need

CLONE_NEWNET = 0x40000000
SO_RCVBUFFORCE = 33
ETH_TYPE = 0x88B5  # for experiments
ETH_TYPE_IP = 0x0800
MAC = "52:54:00:ab:cd:ef"
WINDOW = 32
FLOWS = 64
MANY = 16
MANY_FRAMES = 40
SMALL_WINDOW = 4
TIMEOUT_S = 20
HOSTILE_S = 100


def enter_namespace(*commands):
    """And there run these commands of ip(8)."""
    if os.geteuid() != 0:
        raise Skip("needs root, for a namespace of its own")
    if not os.path.exists("/dev/net/tun"):
        raise Skip("no /dev/net/tun")
    need("ip")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise Skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)


def add_tap(mode="mode tap"):
    return f"tuntap add tap0 {mode}", "link set tap0 up"


def frame(number, source, mac=MAC):
    size = random.Random(number).randrange(46, 1500)
    body = number.to_bytes(4, "big") + bytes((number + i) % 256 for i in range(size - 4))
    return bytes.fromhex(mac.replace(":", "")) + source + ETH_TYPE.to_bytes(2, "big") + body


def returned(sent):
    return sent[6:12] + sent[:6] + sent[12:]


def datagram(number, source, flow):
    """The same as a UDP datagram of one of many flows: the kernel spreads them by ports."""
    payload = number.to_bytes(4, "big") + bytes((number + i) % 256 for i in range(100))
    udp = struct.pack(">HHHH", 1024 + flow, 9, 8 + len(payload), 0) + payload
    ip = struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, 0x0A000001, 0x0A000002)
    return bytes.fromhex(MAC.replace(":", "")) + source + ETH_TYPE_IP.to_bytes(2, "big") + ip + udp


def exchange(link, frames):
    """Send numbered frames, and expect each back in order with the addresses exchanged."""
    source = link.getsockname()[4]
    sent = 0
    for number in range(frames):
        while sent < min(frames, number + WINDOW):
            link.send(frame(sent, source))
            sent += 1
        want = returned(frame(number, source))
        try:
            got = link.recv(4096)
        except TimeoutError:
            raise Failure(f"frame {number} did not come back") from None
        check(got == want, f"frame {number} came back as {got[:40].hex()}..., "
                           f"{len(got)} bytes, not {len(want)}")


def exchange_flows(link, frames):
    """The same with FLOWS flows, each of which is to come back in order."""
    source = link.getsockname()[4]
    next_of = list(range(FLOWS))
    sent = got = 0
    while got < frames:
        while sent < min(frames, got + WINDOW):
            link.send(datagram(sent, source, sent % FLOWS))
            sent += 1
        try:
            reply = link.recv(4096)
        except TimeoutError:
            raise Failure(f"{got} of {frames} frames came back") from None
        if reply[:6] != source:
            continue  # what we sent ourselves
        flow = struct.unpack_from(">H", reply, 34)[0] - 1024
        want = datagram(next_of[flow], source, flow)
        check(reply[12:] == want[12:], f"flow {flow}, frame {next_of[flow]}: {reply[:60].hex()}")
        next_of[flow] += FLOWS
        got += 1


def vhost_keys(vhost):
    """What else the interface is asked for, and the guest."""
    if vhost and not os.path.exists("/dev/vhost-net"):
        raise Skip("no /dev/vhost-net")
    return (",vhost=on", " merge") if vhost else ("", "")


def echo(host, frames, pairs=1, vhost=False, flags=""):
    queues = f",queues={pairs}" if pairs > 1 else ""
    keys, more_flags = vhost_keys(vhost)
    process = host.start("net", "--stats", "--verbose", "--net",
                         f"tap=tap0,mac={MAC}{queues}{keys}",
                         cmdline=f"frames={frames} pairs={pairs}{flags}{more_flags}")
    # wait_for stops the process if nothing comes; the socket hears only the guest's frames
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    try:
        link.bind(("tap0", ETH_TYPE if pairs == 1 else ETH_TYPE_IP))
        link.settimeout(TIMEOUT_S)
        text = wait_for(process, b"mac .*\n")
        check(MAC in text, text)
        (exchange if pairs == 1 else exchange_flows)(link, frames)
        text = wait_for(process, b"PASS\n")
        check("FAIL" not in text, "the guest failed")
        check(process.wait(TIMEOUT_S) == 0, "status")
        return text, process.stderr.read().decode()
    finally:
        link.close()
        stop(process)


def exits_for(host, frames, pairs=1, vhost=False):
    """Of all kinds but the console's; and what the guest said."""
    text, stats = echo(host, frames, pairs, vhost)
    return text, {key: count for key, count in exits(stats).items() if key != ("pio-out", 0x3F8)}


def net(host, vhost=False):
    """Frames of every size arrive whole, both ways, and cost no exit to user space."""
    enter_namespace(*add_tap())
    total = {frames: exits_for(host, frames, vhost=vhost)[1] for frames in (100, 10000)}
    check(total[100] == total[10000], total)
    check(re.search(r"^\d+: tap0: ", subprocess.run(["ip", "link"], capture_output=True, text=True,
                                                    check=True).stdout, re.MULTILINE),
          "the TAP, which was not minivmm's, is gone")
    print(f"{sum(total[10000].values())} exits in all, for 10,000 frames each way or 100")


def net_queues(host, vhost=False):
    """The same by four pairs of queues: flows are spread, each in order, and no exits either."""
    enter_namespace(*add_tap("mode tap multi_queue"))
    total = {}
    for frames in (200, 10000):
        text, total[frames] = exits_for(host, frames, pairs=4, vhost=vhost)
    check(total[200] == total[10000], total)
    sent = [int(n) for n in re.findall(r"pair \d sent (\d+)", text)]
    check(len(sent) == 4 and sum(sent) == 10000 and min(sent) > 0, text)
    print(f"{sum(total[10000].values())} exits in all; sent by the pairs: {sent}")


def net_odd(host):
    """Of a chain to be sent, what is there to be written to does no harm."""
    enter_namespace(*add_tap())
    echo(host, 1000, flags=" odd")


def vhost_net_odd(host):
    """vhost skips such a chain: the card stops until the guest resets it, and that is said."""
    enter_namespace(*add_tap())
    keys, flags = vhost_keys(True)
    process = host.start("net", "--net", f"tap=tap0,mac={MAC}{keys}",
                         cmdline="frames=1000 pairs=1 stay odd" + flags)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
        try:
            link.bind(("tap0", ETH_TYPE))
            wait_for(process, b"mac .*\n")
            for number in range(60):
                link.send(frame(number, link.getsockname()[4]))
            said = process.stderr.readline().decode()
            check("net0: stopped until the guest resets it: a chain that vhost-net" in said, said)
        finally:
            stop(process)


def net_reset(host, vhost=False):
    """Resets under a flood, by four pairs, some of them not in use."""
    enter_namespace(*add_tap("mode tap multi_queue"))
    keys, flags = vhost_keys(vhost)
    process = host.start("net_reset", "--net", f"tap=tap0,queues=4{keys}",
                         cmdline=f"pairs=4{flags}")
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    ended = threading.Event()

    def flood():
        number = 0
        while not ended.wait(0.0002):
            for number in range(number, number + 16):
                try:
                    link.send(datagram(number, b"\2\0\0\0\0\1", number % FLOWS))
                except OSError:
                    pass  # no room: a flood all the same

    thread = threading.Thread(target=flood)
    try:
        link.bind(("tap0", ETH_TYPE))
        wait_for(process, b"ready\n")
        thread.start()
        text = wait_for(process, b"PASS\n")
        check(process.wait(TIMEOUT_S) == 0, "status")
        print(text.split("\n")[0])
    finally:
        ended.set()
        if thread.ident:
            thread.join()
        link.close()
        stop(process)


@contextlib.contextmanager
def meanwhile(work):
    """Call work() again and again, as long as this lasts."""
    ended = threading.Event()

    def run():
        while not ended.is_set():
            try:
                work()
            except OSError:
                pass  # no room in the TAP, or nothing came: go on all the same

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def net_hostile(host, vhost=False):
    """All that no driver should do harms the guest alone, and says little."""
    enter_namespace(*add_tap())
    keys, flags = vhost_keys(vhost)
    for cpus in (1, 3):
        process = host.start("net_hostile", "--cpus", str(cpus), "--net",
                             f"tap=tap0,mac={MAC}{keys}", cmdline=f"cpus={cpus}{flags}")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as link:
            link.bind(("tap0", ETH_TYPE))

            def send_one():
                link.send(frame(1, link.getsockname()[4], "ff:ff:ff:ff:ff:ff"))
                time.sleep(0.001)

            try:
                with meanwhile(send_one):
                    text = wait_for(process, b"PASS\n", timeout_s=HOSTILE_S)
                check("FAIL" not in text and process.wait(TIMEOUT_S) == 0, text[-1000:])
                said = process.stderr.read().decode()
                check(said.count("\n") <= 30, f"{said.count(chr(10))} lines:\n{said}")
            finally:
                stop(process)


def net_rate(host):
    """The benchmark's guest: none of the kicks that it leaves out was needed."""
    enter_namespace(*add_tap())
    jobs = ("bytes=60 depth=64", "bytes=1514 depth=256", "bytes=60", "echo bytes=60 depth=64",
            "echo bytes=1514 depth=32", "echo bytes=60")
    process = host.start("net_rate", "--net", f"tap=tap0,mac={MAC}")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
        link.bind(("tap0", ETH_TYPE))
        link.settimeout(0.1)
        try:
            wait_for(process, b"ready\n")
            with meanwhile(lambda: link.send(link.recv(2048))):
                for job in jobs:
                    process.stdin.write(f"{job} cycles=200000000\n".encode())
                    process.stdin.flush()
                    answer = re.search(r"requests=(\d+) kicks=(\d+)",
                                       wait_for(process, b"cycles=.*\n"))
                    check(0 < int(answer[2]) <= 2 * int(answer[1]), f"{job}: {answer[0]}")
            process.stdin.write(b"\n")
            process.stdin.flush()
            wait_for(process, b"PASS\n")
            check(process.wait(TIMEOUT_S) == 0, "status")
        finally:
            stop(process)


def exchange_with_all(link, macs, frames):
    """Frames to all of them by turns, SMALL_WINDOW on their way to each; each answers in order."""
    source = link.getsockname()[4]
    sent, got = dict.fromkeys(macs, 0), dict.fromkeys(macs, 0)
    while sum(got.values()) < len(macs) * frames:
        for mac in macs:
            while sent[mac] < min(frames, got[mac] + SMALL_WINDOW):
                link.send(frame(sent[mac], source, mac))
                sent[mac] += 1
        reply = link.recv(4096)
        mac = reply[6:12].hex(":")
        if mac in got:  # else it is one of ours
            check(reply == returned(frame(got[mac], source, mac)),
                  f"{mac}, frame {got[mac]}: {reply[:60].hex()}")
            got[mac] += 1


def net_many(host):
    """Many machines at once on a bridge: each gets its own frames, and sends them back."""
    # with an address of its own, or it would take another one as guests leave
    enter_namespace("link add br0 address 02:00:00:00:00:01 type bridge", "link set br0 up")
    processes = [host.start("net", "--name", f"vm{i}", "--net", "bridge=br0",
                            cmdline=f"frames={MANY_FRAMES}") for i in range(MANY)]
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    try:
        link.bind(("br0", ETH_TYPE))
        link.settimeout(TIMEOUT_S)
        link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)  # it hears what it sends, too
        macs = [wait_for(process, b"mac .*\n").split()[-1] for process in processes]
        check(len(set(macs)) == MANY, macs)
        exchange_with_all(link, macs, MANY_FRAMES)
        for process in processes:
            check(wait_for(process, b"PASS\n").count("FAIL") == 0, "a guest failed")
            check(process.wait(TIMEOUT_S) == 0, "status")
        ports = subprocess.run(["ip", "-o", "link", "show", "master", "br0"], capture_output=True,
                               text=True, check=True).stdout
        check(not ports, ports)
    finally:
        link.close()
        for process in processes:
            stop(process)


CASES = {
    "net": net,
    "net-hostile": net_hostile,
    "net-many": net_many,
    "net-queues": net_queues,
    "net-odd": net_odd,
    "net-rate": net_rate,
    "net-reset": net_reset,
    **{f"vhost-{case.__name__}".replace("_", "-"): functools.partial(case, vhost=True)
       for case in (net, net_hostile, net_queues, net_reset)},
    "vhost-net-odd": vhost_net_odd,
}
