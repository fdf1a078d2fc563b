# SPDX-License-Identifier: MIT
"""What the tests of this folder share. See run for how they are started."""

import contextlib
import json
import os
import pathlib
import subprocess
import time

import pytest

import vm as vm_module
from vm import CMDLINE, MINIVMM, Ended, Hang, VM

RESULTS = os.environ.get("BOOT_RESULTS")
IMAGES = pathlib.Path(os.environ.get("BOOT_IMAGES", "/img"))
START = time.monotonic()


def pytest_addoption(parser):
    parser.addoption("--verbose", type=int, default=0)  # the terminal plugin's, which is off


def pytest_configure(config):
    config.addinivalue_line("markers", "smp: the guest has more than one processor")
    config.addinivalue_line("markers", "long: only with --all, where guests are emulated")


def pytest_collection_modifyitems(items):
    """The longest first: two guests, and the bridge between them."""
    items.sort(key=lambda item: "bridge" not in item.name)


# ---- several machines may share the tests: the first to claim one has it

def claimed(item):
    machine = os.path.basename(RESULTS)
    try:
        os.symlink(machine, os.path.join(os.path.dirname(RESULTS), "claims", item.name))
    except FileExistsError:
        return False
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    """What the next test here is, nobody knows: each is torn down whole."""
    if not RESULTS or session.config.option.collectonly:
        return None
    for item in session.items:
        if claimed(item):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        if session.shouldstop or session.shouldfail:
            break
    return True


# ---- reporting: a line when a test begins and ends, and its result kept at
# once, because an emulated machine may not live to the end of the suite

def show(text):
    print("%5d s  %s" % (time.monotonic() - START, text), flush=True)


def short_name(nodeid):
    return nodeid.rpartition("/")[2].replace(".py::test", "").replace("_", " ")


def pytest_runtest_logstart(nodeid, location):
    show("       " + short_name(nodeid))


def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome != "passed":
        show("%-7s%s (%d s)" % (report.outcome, short_name(report.nodeid), report.duration))
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            print("%s:%d: %s" % (crash.path, crash.lineno, crash.message) if crash
                  else report.longreprtext, flush=True)
        if RESULTS:
            with open(RESULTS + "/results", "a", encoding="utf-8") as out:
                out.write(json.dumps([report.nodeid, report.outcome]) + "\n")


def pytest_collectreport(report):
    if report.failed:
        print(report.longreprtext, flush=True)


# ---- guests

@pytest.fixture(scope="session")
def images():
    """A directory with disks and kernels."""
    return IMAGES / "0"


@pytest.fixture(scope="session")
def more_images():
    """Another one, for a second guest at the same time."""
    return IMAGES / "1"


@pytest.fixture
def log(request):
    """Everything the consoles say in one test, kept for the person who asks why."""
    if not RESULTS:
        yield None
        return
    with open("%s/%s.log" % (RESULTS, request.node.name), "w", encoding="utf-8") as out:
        yield out


@pytest.fixture
def boot(images, log):
    """boot(kernel, ...): a guest that one is logged in to, closed after the test. `path`: of a
    file that is not the kernel's own."""
    running = []

    def start(kernel, **spec):
        spec.setdefault("disks", ["%s/debian.qcow2" % images])
        spec.setdefault("log", log)
        if kernel in ("bzImage", "vmlinux"):
            path = images / kernel
        else:
            path = spec.pop("path", images / ("vmlinuz-" + kernel))
            spec.setdefault("initrd", "%s/initrd-%s" % (images, kernel))
            spec.setdefault("cmdline", CMDLINE + " panic=-1")
        guest = first_boot(str(path), spec)
        running.append(guest)
        return guest

    yield start
    for guest in running:
        guest.__exit__()


def first_boot(kernel, spec):
    """Up to the login. With more than one processor the emulated AMD-V now and
    then loses a guest whatever runs it, so such a boot has three attempts, and
    when none succeeds QEMU has three too, to tell whose fault it is."""
    attempts = 3 if spec.get("cpus", 1) > 1 and vm_module.SLOW > 1 else 1
    for attempt in range(1, attempts + 1):
        guest = VM(kernel, **spec)
        guest.__enter__()
        try:
            return guest.login()
        except (Hang, Ended) as failure:
            guest.__exit__()
            if attempts == 1 or (attempt == attempts and MINIVMM == "qemu"):
                raise
            show("       attempt %d with %d processors: %s" % (
                attempt, spec["cpus"], str(failure).split(";", maxsplit=1)[0]))
            if attempt == attempts:
                raise AssertionError("%s\nAll %d attempts failed. Of 3 with QEMU succeeded: %d" % (
                    failure, attempts, qemu_successes(kernel, spec))) from None
    return None


def qemu_successes(kernel, spec):
    count = 0
    vm_module.MINIVMM = "qemu"
    for _ in range(3):
        try:
            with VM(kernel, **spec) as guest:
                guest.login()
            count += 1
        except (Hang, Ended):
            pass
    vm_module.MINIVMM = MINIVMM
    return count


@contextlib.contextmanager
def made_namespace(suffix, *commands):
    """Commands of ip(8) in one that is gone afterwards; the command that enters it."""
    name = "mvtest%d%s" % (os.getpid() % 10000, suffix)
    enter = ["ip", "netns", "exec", name]
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for command in ("link set lo up", *commands):
            subprocess.run([*enter, "ip", *command.split()], check=True)
        yield enter
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture
def namespace():
    """One whose outside is 192.0.2.0/24; the command that enters it."""
    with made_namespace("", "link add outside type bridge", "addr add 192.0.2.2/24 dev outside",
                        "link set outside up", "route add default via 192.0.2.1") as enter:
        yield enter


@pytest.fixture
def uplink():
    """Two: a host's, 192.0.2.2, and another's, 192.0.2.1, that knows of nothing behind it."""
    with made_namespace("b", "link add up0 type veth peer name up1", "addr add 192.0.2.1/24 dev up0",
                        "link set up0 up") as other:
        with made_namespace("a") as host:
            subprocess.run([*other, "ip", "link", "set", "up1", "netns", host[-1]], check=True)
            for command in ("addr add 192.0.2.2/24 dev up1", "link set up1 up",
                            "route add default via 192.0.2.1"):
                subprocess.run([*host, "ip", *command.split()], check=True)
            yield host, other


@pytest.fixture
def bridge():
    """A bridge with an address of the host on it, gone after the test."""
    name = "mvtest%d" % (os.getpid() % 10000)

    def ip(*args):
        subprocess.run(["ip", *args], check=True)

    ip("link", "add", name, "type", "bridge")
    try:
        ip("addr", "add", "10.77.0.1/24", "dev", name)
        ip("link", "set", name, "up")
        yield name
    finally:
        ip("link", "del", name)
