#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
One test of the suite: run minivmm with small guests and check one property.

    run.py --minivmm build/minivmm --guests build/tests/guest hello

Exit status 0, 1, or 77 where this host cannot tell (the reason is printed).
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), ".."))

import cases_disk
import cases_edge
import cases_host
import cases_machine
import cases_net
import cases_pci
import cases_refusals
import harness

CASES = {**cases_disk.CASES, **cases_edge.CASES, **cases_host.CASES,
         **cases_machine.CASES, **cases_net.CASES, **cases_pci.CASES, **cases_refusals.CASES}


if __name__ == "__main__":
    sys.exit(harness.main(__doc__, CASES))
