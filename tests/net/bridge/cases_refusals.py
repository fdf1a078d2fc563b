# SPDX-License-Identifier: MIT
"""What cannot be done: one line that says why, and nothing changed."""

import fcntl
import os
import socket
import subprocess
import time

from cases import check, check_one_line, need

UP = ("up", "br0", "--address", "10.9.0.1/24")
USAGE = 2
FAILED = 1


def usage(host):
    for args, words in ((["--help"], ["up", "down", "list"]), (["up", "--help"], ["--address"]),
                        (["down", "-h"], ["--force"]), (["list", "-h"], ["list"]),
                        (["--version"], ["minivmm"])):
        result = host.bridge(*args)
        check(result.status == 0 and not result.err, result)
        for word in words:
            check(word in result.out, result)
    address = ["--address", "10.9.0.1/24"]
    for args in (["frobnicate"], ["up"], ["up", "br0"], ["up", *address], ["down"],
                 ["up", "br0", "br1", *address], ["up", "br0", "--frobnicate"], ["list", "br0"],
                 ["up", "br0", "--address"], ["up", "br0", *address, "--nat=on"], ["down", "-Z"]):
        host.refused(USAGE, ["bridge"], *args)
    for name in ("", "sixteen_letters_", "a/b", "a b", "..", ".", "br%d", "a:1", "x\n", "../../x",
                 "b\"r", "br*", "br,0", "-x", "é"):
        for words in (("up", "--address", "10.9.0.1/24", "--", name), ("down", "--", name)):
            host.refused(USAGE, ["not a bridge's name"], *words)


def addresses(host):
    for text in ("", "/", "10.9.0.1", "10.9.0.1/", "10.9.0.1/33", "10.9.0.1/-1", "10.9.0.1/24x",
                 "10.9.0/24", "10.9.0.256/24", "10.9.0.1/255.255.255.0", " 10.9.0.1/24",
                 "10.9.0.1 /24", "fd00::1/64", "x" * 4000, "10.9.0.01/24"):
        host.refused(USAGE, ["not an IPv4 address"], "up", "br0", "--address", text)
    for text, why in (("10.9.0.0/24", "network's own"), ("10.9.0.255/24", "broadcast"),
                      ("10.9.0.4/30", "network's own"), ("10.9.0.1/32", "prefix length"),
                      ("10.9.0.1/31", "prefix length"), ("10.0.0.1/7", "prefix length"),
                      ("0.0.0.1/24", "not a host's"), ("127.0.0.2/24", "not a host's"),
                      ("224.0.0.1/24", "not a host's"), ("255.255.255.254/30", "not a host's")):
        host.refused(USAGE, [text, why], "up", "br0", "--address", text)


def overlaps(host):
    host.outside()
    host.sh("ip link add d0 type veth; ip addr add 10.9.64.1/20 dev d0;"
            "ip link add d1 type veth; ip addr add 10.10.0.1 peer 10.10.0.2/32 dev d1")
    for text in ("192.0.2.1/24", "192.0.2.9/30", "192.0.0.1/16"):
        host.refused(FAILED, [text, "up0", "192.0.2.1/24"] if text != "192.0.2.9/30" else
                     ["up0"], "up", "br0", "--address", text)
    for text in ("10.9.79.254/24", "10.9.0.1/16", "10.0.0.1/8"):
        host.refused(FAILED, [text, "overlaps"], "up", "br0", "--address", text)
    host.ok("up", "br0", "--address", "10.9.80.1/24")
    host.refused(FAILED, ["br0", "10.9.80.1/24"], "up", "br1", "--address", "10.9.80.2/24")


def no_bridge(host):
    host.sh("ip link add v0 type veth peer name v1; ip link add theirs type bridge")
    host.refused(FAILED, ["bridge lo: not a bridge"], "up", "lo", "--address", "10.9.0.1/24")
    host.refused(FAILED, ["bridge v0: not a bridge but veth"], "up", "v0", "--address",
                 "10.9.0.1/24")
    for name in ("lo", "v0", "theirs"):
        host.refused(FAILED, [f"bridge {name}: not one that minivmm bridge up"], "down", name)
        host.refused(FAILED, [f"bridge {name}: not one that minivmm bridge up"], "down", name,
                     "--force")
    host.refused(FAILED, ["bridge br7: no such bridge"], "down", "br7")


def rights(host):
    need("setpriv")
    drop = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    host.ok(*UP)
    for args in (UP, ("down", "br0")):
        host.refused(FAILED, ["CAP_NET_ADMIN", "run as root"], *args, prefix=drop)
        host.refused(FAILED, ["CAP_NET_ADMIN"], *args,
                     prefix=("setpriv", "--reuid=65534", "--clear-groups"))


def dnsmasq_missing(host):
    host.sh("for i in /usr/sbin/dnsmasq /sbin/dnsmasq; do"
            "  [ ! -e $i ] || mount --bind /dev/null $i; done")
    host.refused(FAILED, ["dnsmasq: not installed", "dnsmasq-base"], *UP, "--dhcp")
    host.ok(*UP)


def dnsmasq_fails(host):
    """Its own words are passed on; what was done until then is undone by down."""
    need("dnsmasq")
    before = host.snapshot()
    host.ok(*UP)
    with socket.create_server(("10.9.0.1", 53)):
        result = host.bridge(*UP, "--nat", "--dhcp")
    check_one_line(result, FAILED, ["bridge br0: dnsmasq does not start", "Address already in use"])
    host.ok(*UP, "--nat", "--dhcp")
    host.ok("down", "br0")
    host.same(host.snapshot(), before, "down")


def other_namespace(host):
    """The run directory is one for all network namespaces."""
    host.ok(*UP)
    host.sh("ip netns add other")
    for args in (UP, ("down", "br0")):
        host.refused(FAILED, ["bridge br0: ", "another network namespace"], *args,
                     prefix=("ip", "netns", "exec", "other"))
    result = host.bridge("list", prefix=("ip", "netns", "exec", "other"))
    check(result.status == 0 and not result.out, result)


def locked(host):
    host.ok(*UP)
    with open(host.runs / "bridge.lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        host.refused(FAILED, ["another minivmm bridge is at work"], "down", "br0")


# --- what somebody else may have put into the run directory ---

def links(host):
    """No link is followed, to write, to read or to remove."""
    victim = host.tmp / "victim"
    victim.mkdir()
    kept = ("state", "state.new", "pid", "leases", "bridge.lock")
    for name in kept:
        (victim / name).write_text("precious")
    run = host.runs
    run.symlink_to(victim)
    host.refused(FAILED, [f"{run}: not to be trusted"], *UP)
    run.unlink()
    run.mkdir(mode=0o755)
    (run / "bridge-br0").symlink_to(victim)
    for args in (UP, ("down", "br0")):
        result = host.bridge(*args)
        check_one_line(result, FAILED, ["bridge-br0"])
    check("br0" not in host.sh("ip -o link"), "made all the same")
    (run / "bridge-br0").unlink()
    (run / "bridge.lock").unlink(missing_ok=True)
    (run / "bridge.lock").symlink_to(victim / "bridge.lock")
    host.refused(FAILED, ["bridge.lock"], *UP)
    (run / "bridge.lock").unlink()
    (run / "bridge-br0").mkdir(mode=0o755)
    for name in ("state.new", "pid"):
        (run / "bridge-br0" / name).symlink_to(victim / name)
    host.ok(*UP)
    (run / "bridge-br0" / "state").unlink()
    (run / "bridge-br0" / "state").symlink_to(victim / "state")
    host.refused(FAILED, ["bridge-br0/state: not to be trusted"], "down", "br0")
    for name in kept:
        check((victim / name).read_text() == "precious", f"{name} was written to")


def owners(host):
    """What others own, or can write to, is not believed."""
    run = host.runs
    run.mkdir(mode=0o755)
    for path, is_folder in ((run, True), (run / "bridge-br0", True),
                            (run / "bridge-br0" / "state", False)):
        host.ok(*UP)
        for owner, mode in ((65534, path.stat().st_mode), (0, 0o777)):
            before = path.stat().st_mode
            os.chown(path, owner, 0)
            path.chmod(mode & 0o7777)
            host.refused(FAILED, [str(path), "not to be trusted"], "down", "br0")
            os.chown(path, 0, 0)
            path.chmod(before & 0o7777)
        check(path.is_dir() == is_folder, path)
    host.ok("down", "br0")


def garbage(host):
    """A state that up did not write is named, and nothing is done by it."""
    host.ok(*UP)
    state = host.runs / "bridge-br0" / "state"
    good = state.read_bytes()
    for bad in (b"", b"\0", good[:-1], good + b"\n", good + b"x", b"x" * 1000, good * 50,
                good.replace(b"did", b"DID"), good.replace(b"10.9.0.1/24", b"10.9.0.0/24"),
                good.replace(b"10.9.0.1/24", b"10.9.0.1/24 "), b"did 9999999999\n",
                good.replace(b"index ", b"index -"), good.replace(b"index ", b"index 9999999999")):
        state.write_bytes(bad)
        host.refused(FAILED, [str(state), "not what minivmm bridge up wrote"], "down", "br0")
        host.refused(FAILED, [str(state), "not what minivmm bridge up wrote"], *UP)
    state.unlink()
    os.mkfifo(state, 0o644)
    host.refused(FAILED, [str(state)], "down", "br0")
    state.unlink()
    state.mkdir()
    host.refused(FAILED, [str(state)], "down", "br0")
    state.rmdir()
    state.write_bytes(good)
    host.ok("down", "br0")


def forged_pid(host):
    """Whom dnsmasq's user could point at is left alone."""
    need("dnsmasq")
    host.ok(*UP, "--dhcp")
    pid = host.runs / "bridge-br0" / "pid"
    innocent = subprocess.Popen(["sleep", "1000"])
    (ours,) = host.daemons()
    for text in (f"{innocent.pid}\n", "1\n", "0", "-1", "99999999999", "x", "", f"{ours}x\n"):
        pid.write_text(text)
        host.ok("down", "br0")
        check(host.daemons() == [ours], "ended through a forged file")
        host.sh(f"ip link add br0 type bridge; kill {ours}; ip link del br0")
        while host.daemons():
            time.sleep(0.02)
        host.ok(*UP, "--dhcp")
        (ours,) = host.daemons()
    check(innocent.poll() is None, "ended a process of somebody else's")
    innocent.kill()
    innocent.wait()


CASES = {
    "addresses": addresses,
    "dnsmasq-fails": dnsmasq_fails,
    "dnsmasq-missing": dnsmasq_missing,
    "forged-pid": forged_pid,
    "garbage": garbage,
    "links": links,
    "locked": locked,
    "no-bridge": no_bridge,
    "other-namespace": other_namespace,
    "overlaps": overlaps,
    "owners": owners,
    "rights": rights,
    "usage": usage,
}
