# SPDX-License-Identifier: MIT
"""What the suites written in Python share: a case fails, is skipped, or holds."""

import shutil


class Failure(Exception):
    """The property does not hold."""


class Skip(Exception):
    """It cannot be tested here; the text says why."""


def check(condition, what):
    if not condition:
        raise Failure(str(what))


def need(tool):
    if not shutil.which(tool):
        raise Skip(f"{tool} is not installed")


def run(name, case, host):
    """The exit status for meson; closes `host`."""
    try:
        case(host)
    except Skip as reason:
        print(f"SKIP: {reason}")
        return 77
    except Failure as failure:
        print(f"FAIL: {name}: {failure}")
        return 1
    finally:
        host.close()
    return 0
