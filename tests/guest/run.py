#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
One test of the suite: run minivmm with small guests and check one property.

    run.py --minivmm build/minivmm --guests build/tests/guest hello

Exit status 0, 1, or 77 where this host cannot tell (the reason is printed).
"""

import argparse
import signal
import sys

import cases_disk
import cases_machine
import cases_net
import cases_pci
import cases_refusals
import harness

CASES = {**cases_disk.CASES, **cases_machine.CASES, **cases_net.CASES, **cases_pci.CASES,
         **cases_refusals.CASES}


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--minivmm", required=True)
    parser.add_argument("--guests", required=True, help="folder of the guests' ELF files")
    parser.add_argument("--sanitized", action="store_true", help="minivmm has sanitizers")
    parser.add_argument("--without-io-uring", metavar="PROGRAM",
                        help="start minivmm by this, which forbids it")
    parser.add_argument("case", choices=sorted(CASES))
    args = parser.parse_args()

    # Whatever a nohup or a script around us ignores: minivmm would ignore it, too.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not harness.kvm_usable():
        print("SKIP: no access to /dev/kvm")
        return 77
    host = harness.Host(args.minivmm, args.guests, args.sanitized, args.without_io_uring)
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
