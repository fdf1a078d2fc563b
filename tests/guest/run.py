#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
One test of the suite: run minivmm with small guests and check one property.

    run.py --minivmm build/minivmm --guests build/tests/guest hello

Exit status 0, 1, or 77 where this host cannot tell (the reason is printed).
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), ".."))

import cases
import cases_disk
import cases_edge
import cases_machine
import cases_net
import cases_pci
import cases_refusals
import harness

CASES = {**cases_disk.CASES, **cases_edge.CASES, **cases_machine.CASES, **cases_net.CASES,
         **cases_pci.CASES, **cases_refusals.CASES}


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--minivmm", required=True)
    parser.add_argument("--guests", required=True, help="folder of the guests' ELF files")
    parser.add_argument("--sanitized", action="store_true", help="minivmm has sanitizers")
    parser.add_argument("--without-io-uring", metavar="PROGRAM",
                        help="start minivmm by this, which forbids it")
    parser.add_argument("case", choices=sorted(CASES))
    args = parser.parse_args()

    if not harness.kvm_usable():
        print("SKIP: no access to /dev/kvm")
        return 77
    host = harness.Host(args.minivmm, args.guests, args.sanitized, args.without_io_uring)
    return cases.run(args.case, CASES[args.case], host)


if __name__ == "__main__":
    sys.exit(main())
