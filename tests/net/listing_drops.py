# SPDX-License-Identifier: MIT
"""What listing.py is to find of frames that did not get through."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

from cases import check, need
from cases_machine import wait_for
from cases_net import ETH_TYPE, MAC, TIMEOUT_S, exchange, frame, meanwhile
from listing_scene import enter, eventually, listed, machine, nic_of, settled_counts, sh


def stopped(pid):
    """Each thread of it, which takes a while."""
    stats = [path.read_text() for path in pathlib.Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def refused_frames(host):
    """Drops of both sides: the guest's frames to a TAP that is down."""
    enter()
    sh("ip tuntap add tap0 mode tap; ip link set tap0 up")
    link_socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_TYPE))
    with link_socket, machine(host, "--name", "a", "--net", f"tap=tap0,mac={MAC}", guest="net",
                              cmdline="frames=20 stay", ready=b"mac .*\n"):
        link_socket.bind(("tap0", ETH_TYPE))
        link_socket.settimeout(TIMEOUT_S)
        exchange(link_socket, 10)
        check(nic_of(host, "a")["tx"]["dropped"] == 0, "dropped")
        # What waits in the TAP when it goes down is read all the same.
        source = link_socket.getsockname()[4]
        body = bytes.fromhex(MAC.replace(":", "")) + source + ETH_TYPE.to_bytes(2, "big")
        pid = listed(host)[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: stopped(pid), "stopped")
        for _ in range(5):
            link_socket.send(body + bytes(100))
        sh("ip link set tap0 down")
        os.kill(pid, signal.SIGCONT)
        eventually(lambda: nic_of(host, "a")["tx"]["dropped"] == 5, "drops")
        nic, counts = settled_counts(host, "a", "tap0")
        # The kernel counted the same ones.
        check(nic["tx-dropped-by-minivmm"] == counts["rx"]["dropped"] == 5, (nic, counts))
        check(nic["tx"]["dropped"] == 5, nic)
        check(nic["state"] == "down" and nic["rx"]["dropped"] == counts["tx"]["dropped"], nic)


def hostile_guest(host):
    """What a guest does wrong is in the figures, and so is what it asked for."""
    enter()
    sh("ip tuntap add tap0 mode tap; ip link set tap0 up")
    link_socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with link_socket, machine(host, "--name", "a", "--net", f"tap=tap0,mac={MAC}",
                              guest="net_hostile", cmdline="stay", ready=b"ready\n") as process:
        link_socket.bind(("tap0", ETH_TYPE))
        source = link_socket.getsockname()[4]

        def send_one():
            link_socket.send(frame(1, source, "ff:ff:ff:ff:ff:ff"))
            time.sleep(0.001)

        with meanwhile(send_one):
            said = wait_for(process, b"(stays|FAIL.*)\n")
        check("FAIL" not in said, said)
        nic, counts = settled_counts(host, "a", "tap0")
        # After each reset one, of wrong_commands all refused, and the filter.
        check(nic["control"] == {"commands": 9 + 13 + 3, "refused": 13}, nic["control"])
        check(nic["filter"] == {"promiscuous": False, "all-multicast": True, "addresses": 1},
              nic["filter"])
        check(nic["tx-dropped-by-minivmm"] == 6 and not nic["rx-dropped-by-minivmm"], nic)
        check(nic["tx"]["packets"] == counts["rx"]["packets"], (nic, counts))
        # The host's stack dropped others: nobody here wants to have them.
        check(counts["rx"]["dropped"] and nic["tx"]["dropped"] == 6 + counts["rx"]["dropped"],
              (nic, counts))
        # Of a VLAN it did not ask for: filtered, which is no drop.
        check(nic["rx-filtered"] == 0, nic)
        for vlan in (7, 7, 8):
            tag = b"\x81\0" + vlan.to_bytes(2, "big")
            untagged = frame(1, source)
            link_socket.send(untagged[:12] + tag + untagged[12:])
        eventually(lambda: nic_of(host, "a")["rx-filtered"] == 3, "filtered frames")
        after = nic_of(host, "a")
        check(after["rx-dropped-by-minivmm"] == 0 and
              after["rx"]["dropped"] == nic["rx"]["dropped"], (nic, after))
        process.stdin.write(b"\n")
        process.stdin.flush()
        wait_for(process, b"PASS\n")


def guarded(host):
    """What guard= and rate= drop, as tc has it; the figures are the host's alone."""
    enter()
    need("tc")
    guest = {"guest": "net", "cmdline": "frames=1000000 stay", "ready": b"mac .*\n"}
    with machine(host, "--name", "guard", "--net", f"tap=t0,guard=192.0.2.7,mac={MAC}", **guest), \
            machine(host, "--name", "rate", "--net", f"tap=t1,mac={MAC}", **guest), \
            machine(host, "--name", "free", "--net", "tap=t2"), \
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as link_socket:
        # As rate= does it, which takes modules that not every host has.
        tbf = subprocess.run("tc qdisc add dev t1 root handle 6d76: tbf rate 128kbit burst 8k "
                             "limit 2k", shell=True, capture_output=True, check=False)
        for tap, count in (("t0", 20), ("t1", 400)):
            link_socket.bind((tap, ETH_TYPE))
            for _ in range(count):
                with contextlib.suppress(OSError):  # what the shaper drops is said
                    link_socket.send(frame(1, link_socket.getsockname()[4]))
        # It sends each back, which is none of the addresses it may use.
        eventually(lambda: drops_by_tc(host, "guard") == (20, 0), "guard")
        eventually(lambda: drops_by_tc(host, "rate") == tc_drops("t1"), "not as tc has it")
        filters, shaper = drops_by_tc(host, "rate")
        check(tbf.returncode or (not filters and 100 < shaper < 400), (filters, shaper))
        check(drops_by_tc(host, "free") == (0, 0), "dropped by none")
        check(tc_drops("t0") == (20, 0), tc_drops("t0"))


def drops_by_tc(host, name):
    interface = nic_of(host, name)["interface"]
    return interface["dropped-by-filters"], interface["dropped-by-shaper"]


def tc_drops(tap):
    kinds = {"clsact": 0, "tbf": 0}
    for qdisc in json.loads(subprocess.run(["tc", "-s", "-j", "qdisc", "show", "dev", tap],
                                           capture_output=True, check=True).stdout):
        kinds[qdisc["kind"]] = qdisc["drops"]
    return kinds["clsact"], kinds["tbf"]


CASES = {
    "guarded": guarded,
    "hostile-guest": hostile_guest,
    "refused-frames": refused_frames,
}
