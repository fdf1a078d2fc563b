# SPDX-License-Identifier: MIT
"""What guests can do on a bridge that is up."""

import ipaddress
import os

from cases import check, need
from harness import OUTSIDE, UPLINK, can_connect

UP = ("up", "br0", "--address", "10.9.0.1/24")
MIB = 1 << 20


def nat(host):
    """Guests reach out, in the host's name; nobody reaches in."""
    outside = host.outside()
    host.ok(*UP, "--nat")
    guest = host.guest("guest", "br0", "10.9.0.2/24", "10.9.0.1")
    second = host.guest("second", "br0", "10.9.0.3/24", "10.9.0.1")
    check(guest.pings(OUTSIDE), "no ping outside")
    check(guest.pings("10.9.0.1"), "no ping to the host")
    with outside.serve(7000), guest.serve(7001):
        result = guest.talk(OUTSIDE, 7000, 4 * MIB)
        check(result.out.strip() == UPLINK, result)
        check(can_connect("10.9.0.2", 7001), "the host cannot reach its guest")
        result = second.talk("10.9.0.2", 7001, MIB)
        check(result.out.strip() == "10.9.0.3", result)
        # One who knows the way still does not get in, and is told so.
        host.sh(f"ip -n outside route add 10.9.0.0/24 via {UPLINK}")
        check(not outside.pings("10.9.0.2"), "ping from outside got in")
        result = outside.talk("10.9.0.2", 7001, 1)
        check(result.status and "No route to host" in result.err, result)


def nat_forwards_ports(host):
    """A port that somebody's own rules forward to a guest is let in."""
    outside = host.outside()
    host.ok(*UP, "--nat")
    guest = host.guest("guest", "br0", "10.9.0.2/24", "10.9.0.1")
    host.sh("nft 'table ip mine { chain c { type nat hook prerouting priority dstnat; "
            "iifname up0 tcp dport 2222 dnat to 10.9.0.2:7001; }; }'")
    with guest.serve(7001):
        result = outside.talk(UPLINK, 2222, MIB)
    check(result.out.strip() == OUTSIDE, result)


def without_nat(host):
    """The host and each other, and no further."""
    host.outside()
    host.ok(*UP)
    guest = host.guest("guest", "br0", "10.9.0.2/24", "10.9.0.1")
    second = host.guest("second", "br0", "10.9.0.3/24")
    check(guest.pings("10.9.0.1") and second.pings("10.9.0.2"), "no ping on the bridge")
    check(not guest.pings(OUTSIDE), "ping got outside")


def two_bridges(host):
    """Each with NAT: guests of one do not get at those of the other."""
    host.outside()
    host.ok(*UP, "--nat")
    host.ok("up", "br1", "--address", "10.9.1.1/24", "--nat")
    guest = host.guest("guest", "br0", "10.9.0.2/24", "10.9.0.1")
    other = host.guest("other", "br1", "10.9.1.2/24", "10.9.1.1")
    check(guest.pings(OUTSIDE) and other.pings(OUTSIDE), "no ping outside")
    check(not guest.pings("10.9.1.2") and not other.pings("10.9.0.2"), "ping across")


def dhcp(host):
    """With two commands, a guest that knows nothing reaches the world."""
    need("dnsmasq")
    host.outside()
    lines = host.ok(*UP, "--nat", "--dhcp")
    check(lines[-1] == "br0: DHCP started, 10.9.0.2 to 10.9.0.254", lines)
    guest = host.guest("guest", "br0")
    second = host.guest("second", "br0")
    first_lease, second_lease = guest.lease(), second.lease()
    for lease in (first_lease, second_lease):
        address = ipaddress.ip_address(lease.get("ip", "0.0.0.0"))
        check(address in ipaddress.ip_network("10.9.0.0/24") and lease["mask"] == "24", lease)
        check(lease["router"] == lease["dns"] == "10.9.0.1" != lease["ip"], lease)
    check(first_lease["ip"] != second_lease["ip"], "one address for two")
    check(guest.pings(OUTSIDE) and guest.pings(second_lease["ip"]), "no ping")
    # Ended by force, it is started again, and knows what it gave to whom.
    os.kill(host.daemons()[0], 9)
    check("died" in host.ok("list")[1], "list does not say that it died")
    check("br0: DHCP started, 10.9.0.2 to 10.9.0.254" in host.ok(*UP, "--nat", "--dhcp"), "again")
    check(guest.lease()["ip"] == first_lease["ip"], "another address than before")


def dhcp_only(host):
    """Without NAT no way out is told; and nothing is heard but on the bridge."""
    need("dnsmasq")
    need("ss")
    host.outside()
    host.ok("up", "br0", "--address", "10.9.0.2/30", "--dhcp")
    guest = host.guest("guest", "br0")
    lease = guest.lease()
    check(lease.get("ip") == "10.9.0.1" and not lease["router"], lease)
    check(not host.guest("second", "br0").lease(), "the host's own address, or one twice")
    sockets = host.sh("ss -Hlntu").split()
    heard = {word for word in sockets if word.endswith((":53", ":67"))}
    check(heard <= {"10.9.0.2:53", "0.0.0.0%br0:67"} | {word for word in heard if "fe80::" in word},
          heard)
    check(f"{UPLINK}:53" not in heard and "127.0.0.1:53" not in heard, heard)


def listed(host):
    need("dnsmasq")
    check(host.ok("list") == [], "bridges before there are any")
    host.ok(*UP, "--nat", "--dhcp")
    host.ok("up", "br1", "--address", "10.9.1.1/24")
    for number in range(20):
        host.sh(f"ip link add port{number} type veth; ip link set port{number} master br1")
    head, first, second = host.ok("list")
    check(head.split() == ["BRIDGE", "ADDRESS", "NAT", "DHCP", "PORTS"], head)
    check(first.split() == ["br0", "10.9.0.1/24", "yes", "yes", "-"], first)
    check(second.split()[:5] == ["br1", "10.9.1.1/24", "no", "no", "port0,"], second)
    check(second.endswith(", ..."), second)
    # Anybody may ask.
    result = host.bridge("list", prefix=("setpriv", "--reuid=65534", "--clear-groups"))
    check(result.status == 0 and result.out.splitlines() == [head, first, second], result)


CASES = {
    "dhcp": dhcp,
    "dhcp-only": dhcp_only,
    "list": listed,
    "nat": nat,
    "nat-forwards-ports": nat_forwards_ports,
    "two-bridges": two_bridges,
    "without-nat": without_nat,
}
