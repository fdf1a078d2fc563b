# SPDX-License-Identifier: MIT
"""What the host's side needs of a kernel that not every machine's has: the net
suite's tests and small guests, if they were built beside minivmm, on a stock one."""

import os
import re
import subprocess
import sys

import pytest

from vm import MINIVMM

TESTS = os.path.join(os.path.dirname(MINIVMM), "tests/net")
GUESTS = os.path.join(os.path.dirname(MINIVMM), "tests/guest")
RUN_GUEST = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../guest/run.py")
BENCH = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../bench/command.py")


@pytest.mark.parametrize("name", ["capture", "edge", "rate"])
def test_tc_on_a_stock_kernel(name):
    program = "%s/test_%s" % (TESTS, name)
    if not os.access(program, os.X_OK):
        pytest.skip("no %s (ninja tests/net/test_%s)" % (program, name))
    done = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=300, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:]
    assert not re.search(r"SKIPPED", done.stdout), "a module is missing: " + done.stdout[-3000:]


@pytest.mark.skipif(MINIVMM == "qemu", reason="of minivmm's own")
@pytest.mark.parametrize("name", [
    "vhost-net-hostile", "vhost-net-odd", "vhost-net-reset",
    *(pytest.param(name, marks=pytest.mark.long) for name in ("vhost-net", "vhost-net-queues"))])
def test_small_guest_with_vhost(name):
    if not os.path.exists(GUESTS + "/guest_net.elf"):
        pytest.skip("no small guests in %s (ninja)" % GUESTS)
    done = subprocess.run([sys.executable, RUN_GUEST, "--minivmm", MINIVMM, "--guests", GUESTS,
                           name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=600, check=False)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.skipif(MINIVMM == "qemu", reason="of minivmm's own")
@pytest.mark.parametrize("name", ["killed", "run"])
def test_bench(name):
    done = subprocess.run([sys.executable, BENCH, "--minivmm", MINIVMM, "--guests", GUESTS, name],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
