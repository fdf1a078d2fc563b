#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
One test of `minivmm disk`: run it on images, and see that QEMU's tools agree.

    run.py --minivmm build/minivmm --failing build/tests/disk/failing create

Exit status 0, 1, or 77 where this cannot be told here (the reason is printed).
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), ".."))

import cases
import cases_check
import cases_create
import cases_hostile
import cases_info
import cases_map
import cases_verify
import harness

CASES = {**cases_check.CASES, **cases_create.CASES, **cases_hostile.CASES, **cases_info.CASES,
         **cases_map.CASES, **cases_verify.CASES}


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--minivmm", required=True)
    parser.add_argument("--failing", required=True, help="runs a program with a failing call")
    parser.add_argument("case", choices=sorted(CASES))
    args = parser.parse_args()

    host = harness.Host(args.minivmm, args.failing)
    return cases.run(args.case, CASES[args.case], host)


if __name__ == "__main__":
    sys.exit(main())
