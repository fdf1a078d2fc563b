#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
One test of `minivmm bridge`, and of what minivmm says of a bridge: real bridges, nftables, dnsmasq.

    run.py --minivmm build/minivmm --guests build/tests/guest nat

Exit status 0, 1, or 77 where this cannot be told here (the reason is printed).
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", ".."))

import cases
import cases_network
import cases_refusals
import cases_undo
import cases_warnings
import harness

CASES = {**cases_network.CASES, **cases_refusals.CASES, **cases_undo.CASES,
         **cases_warnings.CASES}


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--minivmm", required=True)
    parser.add_argument("--guests", required=True, help="folder of the small guests")
    parser.add_argument("case", choices=sorted(CASES))
    args = parser.parse_args()

    try:
        harness.enter()
        cases.need("nft")
    except cases.Skip as reason:
        print(f"SKIP: {reason}")
        return 77
    host = harness.Host(args.minivmm, args.guests)
    return cases.run(args.case, CASES[args.case], host)


if __name__ == "__main__":
    sys.exit(main())
