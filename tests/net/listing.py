#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
One test of `minivmm net`: machines with small guests on real TAPs and bridges, beside what ip and
bridge say of them. In namespaces of the test's own, with a /run of its own.

    listing.py --minivmm build/minivmm --guests build/tests/guest traffic

Exit status 0, 1, or 77 where this host cannot tell (the reason is printed).
"""

import ctypes
import fcntl
import json
import os
import pathlib
import re
import select
import signal
import socket
import struct
import subprocess
import sys

TESTS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..")
sys.path[:0] = [TESTS, os.path.join(TESTS, "guest")]

import harness
import listing_drops
from cases import check
from cases_machine import stop, wait_for
from cases_net import CLONE_NEWNET, ETH_TYPE, MAC, TIMEOUT_S, exchange
from listing_scene import (NOBODY, RUN, as_user, enter, eventually, ip, listed, machine, names,
                           net, nic_of, open_tap, settled_counts, sh, unshare)

TEXT_BYTES, LIVE_BYTES = 8192, 128
BUFFERS = 64  # guest_net.c


# --- what is shown ---

def traffic(host):
    """Counters as the host has them, the other way round; and who was seen where."""
    enter()
    sh("ip link set br0 mtu 1500")
    frames = 500
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_TYPE))
    options = ("--name", "web", "--net", f"bridge=br0,mac={MAC}")
    # One more than are sent, so that it stays.
    with link, machine(host, *options, guest="net", cmdline=f"frames={frames + 1} stay",
                       ready=b"mac .*\n"), \
            machine(host, "--name", "db", "--net", "bridge=br0"):
        link.bind(("br0", ETH_TYPE))
        link.settimeout(TIMEOUT_S)
        exchange(link, frames)
        sh(f"ip addr add 10.9.0.1/24 dev br0; ip neigh replace 10.9.0.2 lladdr {MAC} dev br0 nud "
           f"stale; ip neigh replace fd00::2 lladdr {MAC} dev br0 nud reachable; "
           f"ip neigh replace fe80::2 lladdr {MAC} dev br0 nud stale; "
           f"ip neigh replace 10.9.0.3 lladdr {MAC} dev br0 nud failed; "
           "ip neigh replace 10.9.0.4 lladdr 02:00:00:00:00:04 dev br0 nud stale")
        nic, counts = settled_counts(host, "web", "mvweb0")
        check({way: nic["interface"][way] for way in ("rx", "tx")} == counts, (nic, counts))
        for ours, theirs in (("rx", "tx"), ("tx", "rx")):
            check(nic[ours] == counts[theirs], (ours, nic, counts))
        check(nic["tx"]["packets"] >= frames, nic)

        table = json.loads(subprocess.run(["bridge", "-j", "fdb", "show", "br", "br0"],
                                          capture_output=True, check=True).stdout)
        learnt = [entry["mac"] for entry in table
                  if entry["ifname"] == "mvweb0" and entry.get("state") != "permanent"]
        check(MAC in learnt and sorted(nic["stations"]) == sorted(learnt), (nic, table))
        want = {item["dst"] for item in ip("neigh")
                if item.get("lladdr") == MAC and item["state"] != ["FAILED"]}
        got = [item["address"] for item in nic["addresses"]]
        check(want == set(got) == {"10.9.0.2", "fd00::2", "fe80::2"}, (want, got))
        check(got[0] == "10.9.0.2" and got[-1] == "fe80::2", got)

        other = nic_of(host, "db")
        check(not other["stations"] and not other["addresses"], other)
        check(other["tx"]["packets"] == 0, other)
        lines = net(host).splitlines()
        check(re.fullmatch(r"web +net0 +up +mvweb0 +br0 +52:54:00:ab:cd:ef +10\.9\.0\.2 \+2",
                           lines[4]), lines)
        check(re.fullmatch(rf" +virtio-net +tap +1 user +[0-9.]+ KiB +[0-9]+ +0 "
                           rf"+[0-9.]+ KiB +{frames} +0", lines[5]), lines)


def table(host):
    """What is in each column; 80 of them do."""
    enter()
    with machine(host, "--name", "a-longish-name", "--net", "bridge=br0,mac=02:00:00:00:00:01",
                 "--net", "tap=t1,mac=02:00:00:00:00:02") as first, \
            machine(host, "--net", "bridge=br0") as second, machine(host, "--name", "alone"):
        lines = net(host).splitlines()
        check(all(len(line) <= 80 for line in lines), lines)
        head, below = lines[0], lines[1]
        check(head.split() == ["VM", "NIC", "LINK", "INTERFACE", "BRIDGE", "MAC", "ADDRESSES"],
              head)
        rows = {tuple(line.split()[:2]): line for line in lines[2:] if line[0] != " "}
        # By name, and the one without by its process.
        check(list(rows) == [(str(second.pid), "net0"), ("a-longish-name", "net0"),
                             ("a-longish-name", "net1"), ("alone", "no")], rows)
        check(rows["a-longish-name", "net0"].split()[2:] ==
              ["up", "mva-longish0", "br0", "02:00:00:00:00:01"], rows)
        check(rows["a-longish-name", "net1"].split()[2:] ==
              ["up", "t1", "-", "02:00:00:00:00:02"], rows)
        columns = [head.index(word) for word in ("NIC", "LINK", "INTERFACE", "BRIDGE", "MAC")]
        for line in list(rows.values())[:3]:
            check(all(line[at - 1] == " " and line[at] != " " for at in columns), (head, line))
        check(len({len(line) for line in lines if line.startswith("  ")}) == 1, lines)
        check(below.split().count("DROPS") == 2, below)

        check([vm["pid"] for vm in listed(host, str(first.pid))] == [first.pid], "by process")
        nics = listed(host, "a-longish-name")[0]["nics"]
        check([nic["interface"]["name"] for nic in nics] == ["mva-longish0", "t1"], nics)
        check([nic["mtu"] for nic in nics] == [1400, 1500], nics)
        check(nics[0]["interface"]["bridge"] == "br0" and not nics[1]["interface"]["bridge"], nics)
        check(listed(host, "alone")[0]["nics"] == [], "no NIC")


def comes_and_goes(host):
    """None; two; one that is killed, and one that quits."""
    enter()
    check(net(host) == "No machine is running.\n", "none")
    check(listed(host) == [], "none")
    with machine(host, "--name", "a", "--net", "bridge=br0") as first, \
            machine(host, "--name", "b", "--net", "bridge=br0") as second:
        check(names(host) == ["a", "b"], names(host))
        check(len(list(RUN.iterdir())) == 2, "files")
        first.kill()
        first.wait()
        check(names(host, **as_user(NOBODY)) == ["b"], "killed")
        check(len(list(RUN.iterdir())) == 2, "nobody removes")
        check(names(host) == ["b"], "killed")
        check([path.name.split("-")[0] for path in RUN.iterdir()] == [str(second.pid)], "stale")
        net(host, "a", status=1, message="net: a: no machine of this name")
        second.send_signal(signal.SIGHUP)
        check(second.wait(TIMEOUT_S) == 0, "status")
        check(not list(RUN.iterdir()), "left behind")
    check(net(host) == "No machine is running.\n", "none")


def failed_start(host):
    """A machine that never runs is never listed."""
    enter()
    for options in (["--net", "bridge=nosuch"], ["--cpus", "65536"]):
        result = host.run("hello", *options)
        check(result.status == 1, result)
    check(not RUN.exists() or not list(RUN.iterdir()), "left behind")


def reboot(host):
    """The machine after a reboot is the same one, and counts on."""
    enter()
    with machine(host, "--name", "a", "--net", "bridge=br0") as process:
        before = listed(host)
        process.stdin.write(b"reboot\n")
        process.stdin.flush()
        wait_for(process, b"ready\n")
        after = listed(host)
        check(len(after) == 1 and after[0]["pid"] == before[0]["pid"], after)
        check(after[0]["nics"][0]["link"], after)
    check(names(host) == [], "left behind")


def link(host):
    """What happens to the interface meanwhile."""
    enter()
    with machine(host, "--name", "a", "--net", "bridge=br0", "--net", "tap=t1") as process:
        def state(index=0):
            return nic_of(host, "a", index)["state"]

        check(state() == state(1) == "up", "up")
        sh("ip link set mva0 down")
        check(state() == "down" and state(1) == "up", "down")
        sh("ip link set mva0 name renamed; ip link set renamed up; ip link set t1 master br0")
        nics = listed(host, "a")[0]["nics"]
        check([nic["interface"]["name"] for nic in nics] == ["renamed", "t1"], nics)
        check(nics[1]["interface"]["bridge"] == "br0", nics)
        sh("ip link del renamed")
        check(state() == "gone" and state(1) == "up", "gone")
        # Another of its name is not it.
        sh("ip tuntap add mva0 mode tap; ip link set mva0 up")
        check(state() == "gone", "another")
        check(re.search(r"^a +net0 +gone +mva0 +br0 ", net(host), re.MULTILINE), net(host))
        check(process.poll() is None, "it runs on")


def gone_unread(host):
    """The TAP goes while the guest has no buffers left to read it with: said once, all the same."""
    enter()
    sh("ip tuntap add tap0 mode tap; ip link set tap0 up")
    link_socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_TYPE))
    with link_socket, machine(host, "--name", "a", "--net", f"tap=tap0,mac={MAC}", guest="net",
                              cmdline="frames=1000 stay once", ready=b"mac .*\n") as process:
        link_socket.bind(("tap0", ETH_TYPE))
        body = bytes.fromhex(MAC.replace(":", "")) + link_socket.getsockname()[4]
        for _ in range(BUFFERS + 1):
            link_socket.send(body + ETH_TYPE.to_bytes(2, "big") + bytes(100))
        eventually(lambda: nic_of(host, "a")["rx"]["packets"] == BUFFERS, "all of its buffers")
        sh("ip link del tap0")
        check(select.select([process.stderr], [], [], TIMEOUT_S)[0], "nothing is said")
        said = process.stderr.readline()
        check(said == b"minivmm: net0: interface tap0 is gone: link down for the guest\n", said)


def same_address(host):
    """Two of one name on one bridge: the second says so, in a line; others say nothing."""
    enter()
    sh("ip link add br1 type bridge; ip link set br1 up")

    def said(*options):
        with machine(host, *options) as process:
            process.kill()
            return process.stderr.read().decode()

    with machine(host, "--name", "web", "--net", "bridge=br0") as first:
        mac = nic_of(host, "web")["mac"]
        line = (f"minivmm: net0: on bridge br0 another machine, process {first.pid}, has the "
                f"address {mac}, too: frames will go astray (give this one another --name, or "
                "mac=)\n")
        check(said("--name", "web", "--net", "bridge=br0") == line, "the name")
        check(said("--net", f"bridge=br0,mac={mac}") == line, "the address")
        check(said("--name", "db", "--net", "bridge=br0") == "", "another name")
        check(said("--name", "web", "--net", f"bridge=br0,mac={MAC}") == "", "another address")
        check(said("--name", "web", "--net", "bridge=br1") == "", "another bridge")
        check(said("--name", "web", "--net", "tap=t1") == "", "no bridge")
    check(said("--name", "web", "--net", "bridge=br0") == "", "alone")


# --- others' machines, others' namespaces ---

def users(host):
    """Everybody sees root's and his own; root sees all; a user needs no rights for it."""
    enter()
    home = f"/run/user/{NOBODY}"
    sh(f"mkdir -m 700 {home}; chown {NOBODY}:{NOBODY} {home};"
       f"ip tuntap add own mode tap user {NOBODY}; ip link set own master br0 up")
    user = as_user(NOBODY, XDG_RUNTIME_DIR=home)
    with machine(host, "--name", "roots", "--net", "bridge=br0"), \
            machine(host, "--name", "users", "--net", "tap=own", **user):
        check(names(host) == ["roots", "users"], names(host))
        check(names(host, **user) == ["roots", "users"], names(host, **user))
        check(names(host, **as_user(NOBODY)) == ["roots"], "without a directory")
        check(names(host, **as_user(12345, XDG_RUNTIME_DIR=home)) == ["roots"], "another")
        check([vm["uid"] for vm in listed(host)] == [0, NOBODY], "uid")
        mine, roots = nic_of(host, "users"), nic_of(host, "roots")
        check(mine["interface"]["bridge"] == "br0" and mine["type"] == "tap", mine)
        for name, nic in (("users", mine), ("roots", roots)):
            seen = listed(host, name, **user)[0]["nics"][0]["interface"]
            check(seen["state"] == "found" and seen["index"] == nic["interface"]["index"], seen)
        check(os.stat(f"{home}/minivmm").st_mode & 0o7777 == 0o700, "mode")
    check(names(host, **user) == [] and not os.listdir(f"{home}/minivmm"), "a user tidies up")


def nowhere(host):
    """Without a place to be listed in a machine runs all the same, and quietly."""
    enter()
    for options, message in (([], ""), (["-v"], "not listed")):
        done = subprocess.run(host.command("hello", *options), capture_output=True, check=False,
                              timeout=TIMEOUT_S, **as_user(NOBODY))
        err = done.stderr.decode()
        check(done.returncode == 0 and b"PASS" in done.stdout, err)
        check(message in err if message else not err, err)
    sh("touch /run/minivmm")
    done = subprocess.run(host.command("hello"), capture_output=True, check=False,
                          timeout=TIMEOUT_S)
    check(done.returncode == 0 and not done.stderr, done)


def namespaces(host):
    """A machine in another network: shown as it is there if we may enter, else by its entry."""
    enter()
    inside = ["unshare", "--net", "sh", "-ec",
              "ip link add br7 type bridge; ip link set br7 up; ip tuntap add t7 mode tap;"
              'ip link set t7 master br7; exec "$@"', "sh"]
    command = host.command("echo", "--name", "far", "--net", "tap=t7")
    process = subprocess.Popen([*inside, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    try:
        wait_for(process, b"ready\n")
        # Of the same name, and not it.
        sh("ip tuntap add t7 mode tap; ip link set t7 up")
        with machine(host, "--name", "near", "--net", "bridge=br0"):
            far, near = nic_of(host, "far"), nic_of(host, "near")
            check(far["interface"]["state"] == "found", far)
            check(far["interface"]["bridge"] == "br7", far)
            check(near["interface"]["bridge"] == "br0", near)
            hidden = listed(host, "far", **as_user(NOBODY))[0]["nics"][0]
            check(hidden["interface"] == {"state": "hidden", "name": "t7", "bridge": ""}, hidden)
            check(hidden["state"] == "up", hidden)
            text = net(host, **as_user(NOBODY))
            check(re.search(r"^far .*\(other namespace\)$", text, re.MULTILINE), text)
            check(re.search(r"^near .* br0 +[0-9a-f:]{17}$", text, re.MULTILINE), text)
    finally:
        stop(process)


def given(host):
    """fd=: found by its address, if it is in the machine's network; else not mistaken."""
    enter()
    here = open_tap("here")
    sh("ip link set here master br0 up")
    outside = os.open("/proc/self/ns/net", os.O_RDONLY)
    unshare(CLONE_NEWNET)
    there = open_tap("there")
    check(ctypes.CDLL(None).setns(outside, CLONE_NEWNET) == 0, "setns")
    sh("ip tuntap add there mode tap; ip link set there up")
    with machine(host, "--name", "here", "--net", f"fd={here}", pass_fds=[here]), \
            machine(host, "--name", "there", "--net", f"fd={there}", pass_fds=[there]):
        nic = nic_of(host, "here")
        check(nic["type"] == "fd" and nic["interface"]["state"] == "found", nic)
        check(nic["interface"]["bridge"] == "br0", nic)
        nic = nic_of(host, "there")
        check(nic["interface"] == {"state": "hidden", "name": "there", "bridge": ""}, nic)


# --- what others may have put there ---

def forge(folder, number, text, nics=0, size=None, uid=NOBODY, live=b"\xff"):
    """An entry, held as a machine holds it. The open file."""
    path = folder / f"{number}-1"
    data = text + bytes(TEXT_BYTES - len(text)) + live * (LIVE_BYTES * nics)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, data)
    os.ftruncate(fd, len(data) if size is None else size)
    os.fchown(fd, uid, uid)
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock)
    return fd


def hostile(host):
    """Root looks at what a user made up: nothing of it is obeyed, and it hides nothing."""
    enter()
    folder = pathlib.Path(f"/run/user/{NOBODY}/minivmm")
    folder.mkdir(mode=0o700, parents=True)
    os.chown(folder, NOBODY, NOBODY)
    target = pathlib.Path("/run/precious")
    target.write_text("x")
    evil = b"%1b[2J%0a%07%c2%9b31m%ff%e0%82%9b" * 9
    nic = (b"nic name=%1b]0;x%07 type=%0d interface=mv0 bridge=..%2f..%2fx model=%09 path=vhost "
           b"mac=ff:ff:ff:ff:ff:ff index=4294967295 queues=4294967295 mtu=4294967295\n")
    held = [forge(folder, 1, b"minivmm 1\nvm name=" + evil + b" pid=1\n" + nic * 8, nics=8),
            forge(folder, 2, b"minivmm 1\nvm pid=4294967295 netns=1\nnic interface=lo\n", nics=1),
            forge(folder, 3, b"minivmm 1\nvm pid=3\n" + nic * 8, nics=7),
            forge(folder, 4, b"minivmm 1\nvm pid=4\n", size=1 << 40),
            forge(folder, 5, b"\x1b[2J"),
            forge(folder, 6, b"minivmm 1\nvm pid=6\n", size=100),
            forge(folder, 7, b"minivmm 1\nvm pid=7\n", uid=0)]
    (folder / "8-1").symlink_to(target)
    os.mkfifo(folder / "9-1")
    (folder / "10-1").mkdir()
    with machine(host, "--name", "good", "--net", "bridge=br0"):
        message = "left out what could not be read in the run directory, of another version of " \
              "minivmm or of none: 7\n"
        vms = listed(host, message=message)
        check([vm["pid"] for vm in vms if vm["uid"]] == [4, 4294967295, 1], vms)
        check(vms[-1]["name"] == "good", vms)
        check(vms[1]["nics"][0]["rx"]["bytes"] == (1 << 63) - 1, vms)
        text = net(host, message=message)
        check(all(c == "\n" or c.isprintable() for c in text), text.encode())
        check(re.search(r"^good +net0 +up +mvgood0 +br0 ", text, re.MULTILINE), text)
        check(names(host, **as_user(12345)) == ["good"], "not to others")
    check(target.read_text() == "x", "followed a link")
    for fd in held:
        os.close(fd)
    net(host, message="or of none: 4\n")
    check(sorted(path.name for path in folder.iterdir()) == ["10-1", "7-1", "8-1", "9-1"],
          "stale ones are gone, and no others")
    # A directory where anybody may put files is none.
    folder.chmod(0o777)
    check(names(host) == [], "unsafe")


def vhost_left(host):
    """Who moves the frames now, not who was to."""
    enter()
    folder = pathlib.Path(f"/run/user/{NOBODY}/minivmm")
    folder.mkdir(mode=0o700, parents=True)
    os.chown(folder, NOBODY, NOBODY)
    text = b"minivmm 1\nvm name=%s pid=1\nnic name=net0 path=vhost queues=1\n"
    held = [forge(folder, 1, text % b"kernel", nics=1, live=b"\0"),
            forge(folder, 2, text % b"left", nics=1)]
    check((nic_of(host, "kernel")["path"], nic_of(host, "left")["path"]) == ("vhost", "user"),
          listed(host))
    check(re.findall(r"(?m)^  +1 (user|vhost) ", net(host)) == ["vhost", "user"], net(host))
    for fd in held:
        os.close(fd)
    if not os.path.exists("/dev/vhost-net"):
        return
    for flags, path in (("", "user"), (" merge", "vhost")):
        with machine(host, "--name", "a", "--net", f"bridge=br0,vhost=on,mac={MAC}", guest="net",
                     cmdline=f"frames=1 stay{flags}", ready=b"mac .*\n"):
            check(nic_of(host, "a")["path"] == path, nic_of(host, "a"))


def usage(host):
    enter()
    check("Usage: minivmm net" in net(host, "--help"), "help")
    check(net(host, "--version").startswith("minivmm "), "version")
    for args, message in ((["--frobnicate"], "net: --frobnicate: unknown option"),
                          (["-x"], "net: -x: unknown option"),
                          (["--json", "-xy"], "net: -x: unknown option"),
                          (["--version=1"], "net: --version=1: this option takes no value"),
                          (["--json=1"], "net: --json=1: this option takes no value"),
                          (["a", "b"], "net: 'b': unexpected argument")):
        net(host, *args, status=2, message=message)
    net(host, "x\x1b[2J", status=1, message="net: x?[2J: no machine")
    with open("/dev/full", "wb") as full:
        for args in ([], ["--json"]):
            done = subprocess.run([host.minivmm, "net", *args], stdout=full, check=False,
                                  stderr=subprocess.PIPE, timeout=TIMEOUT_S)
            check(done.returncode == 1 and b"standard output cannot be written" in done.stderr,
                  done)


CASES = {
    **listing_drops.CASES,
    "comes-and-goes": comes_and_goes,
    "failed-start": failed_start,
    "given": given,
    "gone-unread": gone_unread,
    "hostile": hostile,
    "link": link,
    "namespaces": namespaces,
    "nowhere": nowhere,
    "reboot": reboot,
    "same-address": same_address,
    "table": table,
    "traffic": traffic,
    "usage": usage,
    "users": users,
    "vhost-left": vhost_left,
}


if __name__ == "__main__":
    sys.exit(harness.main(__doc__, CASES))
