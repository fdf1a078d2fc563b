# SPDX-License-Identifier: MIT
"""What the host's side needs of a kernel that not every machine's has: the net
suite's tests, if they were built beside minivmm, on a stock one."""

import os
import re
import subprocess

import pytest

from vm import MINIVMM

TESTS = os.path.join(os.path.dirname(MINIVMM), "tests/net")


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
