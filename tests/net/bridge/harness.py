# SPDX-License-Identifier: MIT
"""
Runs `minivmm bridge` in network, mount and process namespaces that end with the test: /run is
empty, and whatever is started in them (dnsmasq goes into the background) is ended with them.
"""

import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import textwrap

from cases import Skip, check, check_one_line, need, run_program

TIMEOUT_S = 60
INSIDE = "MINIVMM_TEST_INSIDE"
OUTSIDE = "192.0.2.2"  # a machine behind the host's uplink
UPLINK = "192.0.2.1"   # the host's address there


def enter():
    """Run this program again in namespaces of its own; returns only there."""
    if os.environ.get(INSIDE):
        return
    command = ["unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork",
               "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        raise Skip("needs root, for namespaces of its own")
    need("ip")
    need("unshare")
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        raise Skip("no network, mount and process namespaces")
    os.environ[INSIDE] = "1"
    os.execvp(command[0], [*command, sys.executable, *sys.argv])


class Host:
    def __init__(self, minivmm, guests):
        self.minivmm = os.path.abspath(minivmm)
        self.guests = os.path.abspath(guests)
        self.folder = tempfile.TemporaryDirectory(prefix="minivmm-bridge-")
        self.tmp = pathlib.Path(self.folder.name)
        self.runs = pathlib.Path("/run/minivmm")
        self.sh("mount -t tmpfs none /run && ip link set lo up")

    def close(self):
        self.folder.cleanup()

    def run(self, *command, **kwargs):
        result = run_program(command, TIMEOUT_S, cwd=self.tmp, stdin=subprocess.DEVNULL, **kwargs)
        check(result.status >= 0 and "Sanitizer" not in result.err, result)
        return result

    def sh(self, script):
        """A shell's commands, which must succeed; what they print."""
        result = self.run("sh", "-ec", script)
        check(result.status == 0, result)
        return result.out

    # --- the command ---

    def bridge(self, *args, prefix=()):
        return self.run(*prefix, self.minivmm, "bridge", *args)

    def ok(self, *args):
        """It must succeed without a word on stderr; the lines it prints."""
        result = self.bridge(*args)
        check(result.status == 0 and not result.err, result)
        print(result.out, end="")
        return result.out.splitlines()

    def warned(self, fragments, *args):
        """It succeeds with one line about something else."""
        result = self.bridge(*args)
        check_one_line(result, 0, fragments)

    def refused(self, status, fragments, *args, prefix=()):
        """One line, with all `fragments`, and nothing changed."""
        before = self.snapshot()
        result = self.bridge(*args, prefix=prefix)
        check_one_line(result, status, fragments)
        check(not result.out, result)
        self.same(self.snapshot(), before, f"after {result}")

    # --- the host as it is ---

    def snapshot(self):
        """All that the command may change, by name."""
        # A link that was up once has another queue than before.
        found = {"links": re.sub(r" qdisc \w+", "", self.sh("ip -o link")),
                 "addresses": self.sh("ip -4 -o addr"),
                 "routes": self.sh("ip -4 route show table all"),
                 "rules": self.sh("nft list ruleset"),
                 "dnsmasq": " ".join(map(str, self.daemons()))}
        for path in pathlib.Path("/proc/sys/net/ipv4").rglob("*"):
            if path.name == "tcp_fastopen_key":
                continue  # made by the kernel when first needed
            try:
                found[str(path)] = path.read_text() if path.is_file() else ""
            except OSError:
                pass  # only to be written
        for path in self.runs.glob("bridge-*/**/*"):
            found[str(path)] = path.read_bytes() if path.is_file() else ""
        return found

    @staticmethod
    def same(found, before, what):
        wrong = {key: (before.get(key), found.get(key)) for key in {*found, *before}
                 if found.get(key) != before.get(key)}
        check(not wrong, f"{what}: changed: {wrong}")

    @staticmethod
    def daemons():
        """The processes that run dnsmasq."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if path.read_bytes().startswith(b"dnsmasq\0"):
                    found.append(int(path.parent.name))
            except OSError:
                pass  # just ended
        return sorted(found)

    # --- machines around it ---

    def machine(self, name, link):
        """A network namespace whose eth0 is the other end of `link`."""
        self.sh(f"ip netns add {name}; ip -n {name} link set lo up;"
                f"ip link add {link} type veth peer name eth0 netns {name};"
                f"ip link set {link} up; ip -n {name} link set eth0 up")
        return Machine(self, name)

    def outside(self):
        """One that knows nothing of what is behind the host."""
        machine = self.machine("outside", "up0")
        self.sh(f"ip addr add {UPLINK}/24 dev up0; ip -n outside addr add {OUTSIDE}/24 dev eth0")
        return machine

    def guest(self, name, bridge, address=None, router=None):
        machine = self.machine(name, f"p-{name}")
        self.sh(f"ip link set p-{name} master {bridge}")
        if address:
            self.sh(f"ip -n {name} addr add {address} dev eth0")
        if router:
            self.sh(f"ip -n {name} route add default via {router}")
        return machine


class Machine:
    def __init__(self, host, name):
        self.host = host
        self.name = name

    def run(self, *command):
        return self.host.run("ip", "netns", "exec", self.name, *command)

    def pings(self, address):
        need("ping")
        return self.run("ping", "-c1", "-W2", address).status == 0

    def serve(self, port):
        """A process that sends back what each who connects sends, after that one's address."""
        return Server(self, port)

    def talk(self, address, port, size):
        """Send `size` bytes and take them back; who the other took us for."""
        code = f"""
            import os, socket, threading
            data = os.urandom({size})
            link = socket.create_connection(("{address}", {port}), timeout=3)
            threading.Thread(target=link.sendall, args=(data,)).start()
            file = link.makefile("rb")
            peer = file.readline().decode().strip()
            print(peer if file.read({size}) == data else "wrong data")
            """
        return self.run(sys.executable, "-c", textwrap.dedent(code))

    def lease(self):
        """What DHCP says: {"ip": ..., "router": ..., "dns": ...}; {} for no answer."""
        need("busybox")
        script = self.host.tmp / "udhcpc"
        script.write_text("#!/bin/sh\n[ \"$1\" = bound ] || exit 0\n"
                          "ip addr flush dev $interface; ip addr add $ip/$mask dev $interface\n"
                          "[ -z \"$router\" ] || ip route replace default via $router\n"
                          "echo ip=$ip; echo router=$router; echo dns=$dns; echo mask=$mask\n")
        script.chmod(0o755)
        result = self.run("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "4", "-T", "2",
                          "-s", script)
        return dict(line.split("=", 1) for line in result.out.splitlines() if "=" in line)


class Server:
    CODE = """
        import socket, sys, threading
        def answer(link, peer):
            link.sendall((peer[0] + "\\n").encode())
            while data := link.recv(65536):
                link.sendall(data)
        listener = socket.create_server(("", {port}))
        print("ready", flush=True)
        while True:
            threading.Thread(target=answer, args=listener.accept(), daemon=True).start()
        """

    def __init__(self, machine, port):
        code = textwrap.dedent(self.CODE.format(port=port))
        self.process = subprocess.Popen(["ip", "netns", "exec", machine.name, sys.executable, "-c",
                                         code], stdout=subprocess.PIPE)
        self.process.stdout.readline()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.kill()
        self.process.wait()


def can_connect(address, port):
    try:
        socket.create_connection((address, port), timeout=3).close()
    except OSError:
        return False
    return True
