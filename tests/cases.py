# SPDX-License-Identifier: MIT
"""What the suites written in Python share: a case fails, is skipped, or holds; programs run."""

import dataclasses
import json
import re
import shutil
import subprocess


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


@dataclasses.dataclass
class Result:
    """What came out of a program."""
    what: str
    status: int
    out: str
    err: str

    def __str__(self):
        return f"{self.what}: status {self.status}\nstdout: {self.out}\nstderr: {self.err}"

    def json(self):
        try:
            return json.loads(self.out)
        except ValueError as error:
            raise Failure(f"not JSON ({error}): {self}") from None


def run_program(command, timeout_s, **kwargs):
    """The Result; fails if it takes longer."""
    command = [str(word) for word in command]
    what = " ".join(command)

    def text(data):
        return (data or b"").decode(errors="replace")

    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False,
                              **kwargs)
    except subprocess.TimeoutExpired as late:
        raise Failure(f"{what}: still running after {timeout_s} s\nstdout: {text(late.stdout)}\n"
                      f"stderr: {text(late.stderr)}") from None
    return Result(what, done.returncode, text(done.stdout), text(done.stderr))


def check_one_line(result, status, fragments):
    """It ended with `status` and one message, which has all `fragments`."""
    check(result.status == status, result)
    check(re.fullmatch(r"minivmm: [^\n]+\n", result.err), f"not one line: {result}")
    for fragment in fragments:
        check(fragment in result.err, f"{fragment!r} is missing: {result}")
    print(result.err, end="")


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
