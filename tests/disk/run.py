#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
One test of `minivmm disk`: run it on images, and see that QEMU's tools agree.

    run.py --minivmm build/minivmm --failing build/tests/disk/failing create

Exit status 0, 1, or 77 where this cannot be told here (the reason is printed).
"""

import argparse
import sys

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
    try:
        CASES[args.case](host)
    except harness.Skip as reason:
        print(f"SKIP: {reason}")
        return 77
    except harness.Failure as failure:
        print(f"FAIL: {args.case}: {failure}")
        return 1
    finally:
        host.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
