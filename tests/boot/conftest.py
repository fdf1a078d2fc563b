# SPDX-License-Identifier: MIT
"""What the tests of this folder share. See run for how they are started."""

import json
import os
import pathlib
import subprocess

import pytest

import vm as vm_module
from vm import CMDLINE, MINIVMM, Ended, Hang, VM

RESULTS = os.environ.get("BOOT_RESULTS")
IMAGES = pathlib.Path(os.environ.get("BOOT_IMAGES", "/img"))


def pytest_configure(config):
    config.addinivalue_line("markers", "minutes(n): about how long it takes where emulated")


def pytest_collection_modifyitems(items):
    """The long ones first, so that two workers end at the same time."""
    items.sort(key=lambda item: -max((mark.args[0] for mark in item.iter_markers("minutes")),
                                     default=0))


def pytest_runtest_logreport(report):
    """Keep each result at once: the emulated machine may not live to the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    if report.when == "teardown":
        for name, text in report.user_properties:
            print("\n%s: %s: %s" % (report.nodeid, name, text), flush=True)
    if RESULTS:
        if report.when == "call" or report.outcome != "passed":
            with open(RESULTS + "/results", "a") as out:
                out.write(json.dumps([report.nodeid, report.outcome]) + "\n")


@pytest.fixture(scope="session")
def worker():
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])


@pytest.fixture(scope="session")
def images(worker):
    """A directory with disks and kernels that nobody else writes to."""
    return IMAGES / str(2 * worker)


@pytest.fixture(scope="session")
def more_images(worker):
    """Another one, for a second guest at the same time."""
    return IMAGES / str(2 * worker + 1)


@pytest.fixture
def log(request):
    """Everything the consoles say in one test, kept for the person who asks why."""
    if not RESULTS:
        yield None
        return
    name = request.node.name.replace("/", "-")
    with open("%s/%s.log" % (RESULTS, name), "w") as out:
        yield out


@pytest.fixture
def boot(request, images, log):
    """boot(kernel, ...): a guest that one may log in to, closed after the test."""
    running, notes = [], request.node.user_properties

    def start(kernel, **spec):
        spec.setdefault("disks", ["%s/debian.qcow2" % images])
        spec.setdefault("log", log)
        if kernel == "small":
            path, initrd = images / "bzImage", None
        else:
            path, initrd = images / ("vmlinuz-" + kernel), "%s/initrd-%s" % (images, kernel)
            spec.setdefault("cmdline", CMDLINE + " panic=-1")
        spec.setdefault("initrd", initrd)
        machine = first_boot(str(path), spec, notes)
        running.append(machine)
        return machine

    yield start
    for machine in running:
        machine.__exit__()


def first_boot(kernel, spec, notes):
    """Up to the login. With more than two processors the emulated AMD-V now and
    then loses a guest whatever runs it, so such a boot has three attempts, and
    when none succeeds QEMU has three too, to tell whose fault it is."""
    attempts = 3 if spec.get("cpus", 1) > 2 and vm_module.SLOW > 1 else 1
    for attempt in range(1, attempts + 1):
        machine = VM(kernel, **spec)
        machine.__enter__()
        try:
            return machine.login()
        except (Hang, Ended) as failure:
            machine.__exit__()
            if attempt == attempts:
                if attempts == 1 or MINIVMM == "qemu":
                    raise
                raise AssertionError("%s\nNone of %d attempts; QEMU: %d of 3" % (
                    failure, attempts, qemu_successes(kernel, spec))) from None
            notes.append(("tried again", "%d processors, attempt %d: %s"
                          % (spec["cpus"], attempt, str(failure).split(";", maxsplit=1)[0])))
    return None


def qemu_successes(kernel, spec):
    count = 0
    vm_module.MINIVMM = "qemu"
    for _ in range(3):
        try:
            with VM(kernel, **spec) as machine:
                machine.login()
            count += 1
        except (Hang, Ended):
            pass
    vm_module.MINIVMM = MINIVMM
    return count


@pytest.fixture
def bridge(worker):
    """A bridge with an address of the host on it, gone after the test."""
    name = "mvtest%d" % worker
    ip = lambda *args: subprocess.run(["ip", *args], check=True)
    ip("link", "add", name, "type", "bridge")
    try:
        ip("addr", "add", "10.77.%d.1/24" % worker, "dev", name)
        ip("link", "set", name, "up")
        yield name
    finally:
        ip("link", "del", name)
