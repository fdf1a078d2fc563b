# SPDX-License-Identifier: MIT
"""What stops a bridge's traffic without a word is said, with a remedy that helps."""

import os
import re
import subprocess

from cases import Skip, check, check_one_line, need
from harness import OUTSIDE

UP = ("up", "br0", "--address", "10.9.0.1/24")
BR_NETFILTER = "/proc/sys/net/bridge/bridge-nf-call-iptables"
DROP = "nft 'table {0} {{ chain {1} {{ type filter hook {2} priority 0; policy drop; }}; }}'"


def remedy(err):
    """The command in the last parentheses."""
    return re.search(r"\(([^()]*)\)\n$", err).group(1)


def forward_policy(host):
    """As Docker leaves it: NAT is in vain until its table lets the guests through."""
    host.outside()
    host.sh(DROP.format("ip filter", "FORWARD", "forward"))
    result = host.bridge(*UP, "--nat")
    check_one_line(result, 0, ["keeps guests from going out", "FORWARD", "ip filter"])
    guest = host.guest("guest", "br0", "10.9.0.2/24", "10.9.0.1")
    check(not guest.pings(OUTSIDE), "it was no obstacle")
    rule = remedy(result.err).split(", ")[0]
    host.sh(f"{rule}; {rule.replace('iifname', 'oifname')}")
    check(guest.pings(OUTSIDE), "the remedy does not help")
    host.ok(*UP, "--nat")
    # What only has to do with others is no reason for a word.
    host.sh("nft flush ruleset")
    host.sh(DROP.format("ip6 filter", "FORWARD", "forward"))
    host.sh(DROP.format("ip filter", "OUTPUT", "output"))
    host.sh("nft 'table inet f { chain forward { type filter hook forward priority 0; }; }'")
    host.ok(*UP, "--nat")
    host.sh(DROP.format("inet other", "forward", "forward"))
    host.sh("nft add rule inet other forward iifname br00 accept")
    host.sh("nft add rule inet other forward iifname xbr0 accept")
    host.warned(["chain forward of table inet other"], *UP, "--nat")


def input_policy(host):
    """As ufw leaves it: nobody hears the guests ask."""
    need("dnsmasq")
    host.sh(DROP.format("inet ufw", "input", "input"))
    result = host.bridge(*UP, "--dhcp")
    check_one_line(result, 0, ["keeps guests from asking for an address", "inet ufw"])
    guest = host.guest("guest", "br0")
    check(not guest.lease(), "it was no obstacle")
    host.sh(remedy(result.err))
    check(guest.lease(), "the remedy does not help")
    host.ok(*UP, "--dhcp")


# --- what minivmm says at its start ---

def start(host, *nets):
    """The lines minivmm says, with the smallest of guests."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK) or not os.access("/dev/net/tun", os.R_OK):
        raise Skip("no /dev/kvm, or no /dev/net/tun")
    words = [word for net in nets for word in ("--net", net)]
    result = host.run(host.minivmm, "--kernel", f"{host.guests}/guest_hello.elf", *words)
    check(result.status == 0 and "hello" in result.out, result)
    return result.err


def bridged_firewall(host):
    """br_netfilter and a dropping FORWARD chain: said once for each bridge, with what helps."""
    if not os.path.exists(BR_NETFILTER):
        raise Skip("no br_netfilter (modprobe br_netfilter)")
    host.ok(*UP)
    host.sh("ip link add br1 type bridge; ip link set br1 up")
    host.sh(DROP.format("ip filter", "FORWARD", "forward"))
    host.sh(f"echo 0 >{BR_NETFILTER}")
    check(start(host, "bridge=br0") == "", "a word without br_netfilter")
    guest = host.guest("guest", "br0", "10.9.0.2/24")
    second = host.guest("second", "br0", "10.9.0.3/24")
    for switch in (f"echo 1 >{BR_NETFILTER}",
                   f"echo 0 >{BR_NETFILTER}; ip link set br0 type bridge nf_call_iptables 1"):
        host.sh(switch)
        check(not guest.pings("10.9.0.3"), "it was no obstacle")
        said = start(host, "bridge=br0", "bridge=br0")
        check(said.count("\n") == 1 and "bridge br0: " in said and "br_netfilter" in said, said)
        print(said, end="")
        host.sh("nft list ruleset >rules")
        host.sh(remedy(said))
        check(second.pings("10.9.0.2"), "the remedy does not help")
        check(start(host, "bridge=br0") == "", "said again, with the remedy in place")
        host.sh("nft flush ruleset; nft -f rules")
    host.sh(f"echo 1 >{BR_NETFILTER}")
    said = start(host, "bridge=br1", "bridge=br0", "bridge=br1")
    check(said.count("bridge br0: ") == said.count("bridge br1: ") == 1, said)
    host.sh("nft flush ruleset")
    check(start(host, "bridge=br0") == "", "a word without a chain that drops")


def spanning_tree(host):
    host.sh("ip link add br0 type bridge stp_state 1 forward_delay 400; ip link set br0 up")
    said = start(host, "bridge=br0")
    check(said.count("\n") == 1 and "spanning tree" in said and "8 s" in said, said)
    print(said, end="")
    host.sh(remedy(said).split(": ")[1])
    check(start(host, "bridge=br0") == "", "said again, with the remedy in place")
    host.ok("up", "br1", "--address", "10.9.0.1/24")
    check(start(host, "bridge=br1") == "", "about a bridge of ours")


def reverse_path(host):
    """Strict rp_filter matters where the way back is by another interface, and only there."""
    host.ok(*UP)
    host.sh("sysctl -qw net.ipv4.conf.br0.rp_filter=1")
    check(start(host, "bridge=br0") == "", "a word where the way back is by the bridge")
    guest = host.guest("guest", "br0", "10.9.0.2/24")
    check(guest.pings("10.9.0.1"), "no ping")
    host.sh("ip link add wlan7 type veth; ip link set wlan7 up;"
            "ip route del 10.9.0.0/24 dev br0; ip addr add 10.9.0.9/24 dev wlan7")
    check(not guest.pings("10.9.0.9"), "it was no obstacle")
    said = start(host, "bridge=br0")
    check(said.count("\n") == 1 and "rp_filter" in said and "wlan7" in said, said)
    print(said, end="")
    host.sh("sysctl -qw net.ipv4.conf.br0.rp_filter=2")
    check(start(host, "bridge=br0") == "", "said of a loose one")


def iptables(host):
    """What its rules look like to nftables, as Docker makes them."""
    need("iptables-nft")
    for rule in ("-i br0", "-o br0", "-m physdev --physdev-is-bridged"):
        host.sh("iptables-nft -P FORWARD DROP; iptables-nft -F FORWARD;"
                "iptables-nft -A FORWARD -i br1 -j ACCEPT")
        host.warned(["chain FORWARD of table ip filter"], *UP, "--nat")
        host.sh(f"iptables-nft -A FORWARD {rule} -j ACCEPT")
        host.ok(*UP, "--nat")


def guest_on_it(host):
    """A running machine keeps its bridge from being taken down."""
    host.ok(*UP, "--nat")
    check(start(host, "bridge=br0") == "", "a word about a bridge of ours")
    machine = subprocess.Popen([host.minivmm, "--kernel", f"{host.guests}/guest_net.elf",
                                "--cmdline", "frames=1", "--net", "bridge=br0"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    check(b"mac " in machine.stdout.readline(), "the guest does not start")
    host.refused(1, ["bridge br0: in use by mv0", "--force"], "down", "br0")
    machine.kill()
    machine.wait()
    # The kernel takes a ring apart, and lets go of its files, a moment after the process.
    host.sh("for i in $(seq 100); do "
            "ip link show mv0 >/dev/null 2>&1 || exit 0; sleep 0.05; done; exit 1")
    host.ok("down", "br0")


CASES = {
    "bridged-firewall": bridged_firewall,
    "forward-policy": forward_policy,
    "guest-on-it": guest_on_it,
    "input-policy": input_policy,
    "iptables": iptables,
    "reverse-path": reverse_path,
    "spanning-tree": spanning_tree,
}
