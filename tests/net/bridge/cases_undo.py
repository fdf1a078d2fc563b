# SPDX-License-Identifier: MIT
"""Done twice, done otherwise, and undone."""

import subprocess

from cases import check, need
from harness import OUTSIDE

UP = ("up", "br0", "--address", "10.9.0.1/24")
ALL = (*UP, "--nat", "--dhcp")


def again(host):
    """The second time finds everything, and changes nothing."""
    need("dnsmasq")
    first = host.ok(*ALL)
    check(first == ["br0: bridge made", "br0: address 10.9.0.1/24 added", "br0: set up",
                    "br0: forwarding turned on (net.ipv4.ip_forward)",
                    "br0: NAT set up (nftables table ip minivmm-br0)",
                    "br0: DHCP started, 10.9.0.2 to 10.9.0.254"], first)
    before = host.snapshot()
    second = host.ok(*ALL)
    check(second == ["br0: bridge there already", "br0: address 10.9.0.1/24 there already",
                     "br0: forwarding on already",
                     "br0: NAT there already (nftables table ip minivmm-br0)",
                     "br0: DHCP there already, 10.9.0.2 to 10.9.0.254"], second)
    host.same(host.snapshot(), before, "a second up")


def repairs(host):
    """What went missing meanwhile is put back."""
    need("dnsmasq")
    clean = host.snapshot()
    host.ok(*ALL)
    before = host.snapshot()
    guest = host.guest("guest", "br0")
    for damage, line in (
            ("nft flush ruleset", "br0: NAT set up (nftables table ip minivmm-br0)"),
            ("nft flush chain ip minivmm-br0 forward",
             "br0: NAT set up (nftables table ip minivmm-br0)"),
            ("ip addr flush dev br0 scope global", "br0: address 10.9.0.1/24 added"),
            ("ip link set br0 down", "br0: set up"),
            ("sysctl -qw net.ipv4.ip_forward=0",
             "br0: forwarding turned on (net.ipv4.ip_forward)"),
            ("ip link del br0; ip link add br0 type bridge", "br0: bridge there already"),
            ("ip link del br0", "br0: bridge made")):
        host.sh(damage)
        lines = host.ok(*ALL)
        check(line in lines, f"{line} is missing after {damage}: {lines}")
        found = host.snapshot()
        for key in ("rules", "/proc/sys/net/ipv4/ip_forward"):
            check(found[key] == before[key], f"{key} after {damage}: {found[key]}")
        if "link del" in damage:
            host.sh("ip link set p-guest master br0")
            check(guest.lease(), f"no lease after {damage}")
    host.sh("ip link del br0; ip link del p-guest")
    check("br0: bridge was gone already" in host.ok("down", "br0"), "gone")
    host.same(host.snapshot(), clean, "down of a bridge that was gone")


def changes(host):
    """From each set of options to each other, as if from nothing."""
    need("dnsmasq")
    sets = [(address, *more) for address in ("10.9.0.1/24", "10.9.0.7/24", "172.20.0.1/16")
            for more in ((), ("--nat",), ("--dhcp",), ("--nat", "--dhcp"))]
    fresh = {}
    for args in sets:
        host.ok("up", "br0", "--address", *args)
        fresh[args] = essence(host)
        host.ok("down", "br0")
    clean = host.snapshot()
    for args in sets[::5] + sets[::7] + sets[::-1]:
        host.ok("up", "br0", "--address", *args)
        check(essence(host) == fresh[args], f"{args}: {essence(host)} is not {fresh[args]}")
    host.ok("down", "br0")
    host.same(host.snapshot(), clean, "down after many ups")


def essence(host):
    found = host.snapshot()
    commands = [open(f"/proc/{pid}/cmdline", "rb").read() for pid in host.daemons()]
    addresses = host.sh("ip -4 -o addr show dev br0").split("br0", 1)[1]
    return addresses, found["rules"], found["/proc/sys/net/ipv4/ip_forward"], commands


def down(host):
    """Nothing is left, whatever the host was like before."""
    need("dnsmasq")
    host.outside()
    for setting in ("ip_forward=0", "conf.all.accept_redirects=0", "ip_forward=1"):
        host.sh(f"sysctl -qw net.ipv4.{setting}")
        before = host.snapshot()
        host.ok(*ALL)
        check(host.snapshot() != before, "nothing was done")
        host.ok("down", "br0")
        host.same(host.snapshot(), before, f"down, with {setting}")
        host.refused(1, ["bridge br0: no such bridge"], "down", "br0")


def forwards_by_interface(host):
    """A host that forwards by one interface alone goes on to, and by no other but the bridge."""
    conf = "/proc/sys/net/ipv4/conf"
    outside = host.outside()
    host.sh(f"ip link add other type veth; ip link set other up; echo 1 > {conf}/up0/forwarding")
    said = "br0: forwarding turned on (net.ipv4.conf.br0.forwarding alone"
    for theirs in (False, True):
        if theirs:
            host.sh("ip link add br0 type bridge; ip link set br0 up")
        before = host.snapshot()
        lines = host.ok(*UP, "--nat")
        check(any(line.startswith(said) for line in lines), lines)
        check("br0: forwarding on already" in "\n".join(host.ok(*UP, "--nat")), "again")
        guest = host.guest("guest", "br0", "10.9.0.2/24", "10.9.0.1")
        check(guest.pings(OUTSIDE) and not outside.pings("10.9.0.2"), "NAT")
        found = host.snapshot()
        for name in ("all", "default", "other", "lo"):
            check(found[f"{conf}/{name}/forwarding"] == "0\n", f"{name} forwards")
        host.sh("ip link del p-guest; ip netns del guest")
        lines = host.ok("down", "br0")
        check("br0: forwarding turned off (net.ipv4.conf.br0.forwarding)" in lines, lines)
        after = host.snapshot()
        for found in before, after:
            del found["links"]  # a bridge that stays is another without its guest
        host.same(after, before, "down")
    # Where somebody has the whole host forward meanwhile, that stays.
    host.ok(*UP, "--nat")
    host.sh("sysctl -qw net.ipv4.ip_forward=1")
    host.ok("down", "br0")
    for name in ("all", "br0", "up0"):
        check(host.snapshot()[f"{conf}/{name}/forwarding"] == "1\n", name)


def down_of_several(host):
    """Forwarding is put back by the last that needs it, whoever turned it on."""
    host.sh("sysctl -qw net.ipv4.conf.all.accept_redirects=0")
    before = host.snapshot()
    for number in range(3):
        host.ok("up", f"br{number}", "--address", f"10.9.{number}.1/24", "--nat")
    host.ok("up", "br3", "--address", "10.9.3.1/24")
    check("br0: forwarding left on, bridge br1 needs it" in host.ok("down", "br0"), "br0")
    check("br1: forwarding left on, bridge br2 needs it" in
          host.ok("up", "br1", "--address", "10.9.1.1/24"), "br1")
    check("br2: forwarding turned off (net.ipv4.ip_forward)" in host.ok("down", "br2"), "br2")
    host.ok("down", "br1")
    host.ok("down", "br3")
    host.same(host.snapshot(), before, "all down")


def foreign(host):
    """Of a bridge that was there, only what was added is taken away."""
    need("dnsmasq")
    for state in ("down", "up"):
        host.sh(f"ip link add br0 type bridge stp_state 1; ip link set br0 {state};"
                "ip addr add 10.8.0.1/24 dev br0; ip link add port0 type veth;"
                "ip link set port0 master br0")
        before = host.snapshot()
        check(host.ok(*ALL)[0] == "br0: bridge there already", "made")
        check("stp_state 1" in host.sh("ip -d link show br0"), "its settings were changed")
        host.ok("up", "br0", "--address", "10.8.0.1/24", "--nat")
        host.ok("down", "br0")
        after = host.snapshot()
        if state == "down":  # of which a link-local address comes and goes
            host.same(after, before, "down of one that was there")
        check("10.8.0.1/24" in after["addresses"] and "br0" in after["links"], after)
        host.sh("ip link del br0; ip link del port0")


def at_once(host):
    """Twelve at the same time, half of them of one bridge: no step is lost."""
    before = host.snapshot()
    for words in (("up", "--address", "10.9.{}.1/24", "--nat"), ("down",)):
        commands = [[words[0], f"br{number}", *(word.format(number) for word in words[1:])]
                    for number in (*range(6), *([0] * 6 if words[0] == "up" else []))]
        running = [subprocess.Popen([host.minivmm, "bridge", *command]) for command in commands]
        statuses = [process.wait(60) for process in running]
        check(not any(statuses), statuses)
        if words[0] == "up":
            check(host.snapshot()["rules"].count("table ip minivmm-br") == 6, "tables")
    host.same(host.snapshot(), before, "all down")


def ports(host):
    """What is in use is not taken away, but by force."""
    before = host.snapshot()
    host.ok(*UP)
    for kind, name in (("tuntap", "guest0 mode tap"), ("link", "guest1 type veth")):
        name = name.split()[0]
        host.sh(f"ip {kind} add {name} {'mode tap' if kind == 'tuntap' else 'type veth'};"
                f"ip link set {name} master br0")
        host.refused(1, ["bridge br0: in use by", name, "--force"], "down", "br0")
    host.ok("down", "br0", "--force")
    host.sh("ip link del guest0; ip link del guest1")
    host.same(host.snapshot(), before, "down by force")
    # Of a bridge that stays only guests count.
    host.sh("ip link add br0 type bridge; ip link add port0 type veth;"
            "ip link set port0 master br0")
    host.ok(*UP)
    host.ok("down", "br0")
    host.ok(*UP)
    host.sh("ip tuntap add guest0 mode tap; ip link set guest0 master br0")
    host.refused(1, ["bridge br0: in use by", "guest0"], "down", "br0")


CASES = {
    "again": again,
    "at-once": at_once,
    "changes": changes,
    "down": down,
    "down-of-several": down_of_several,
    "foreign": foreign,
    "forwards-by-interface": forwards_by_interface,
    "ports": ports,
    "repairs": repairs,
}
