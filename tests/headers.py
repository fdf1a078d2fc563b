#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Compiles each header alone: it includes what it needs.

    headers.py ROOT CC [ARGUMENT]...
"""

import pathlib
import subprocess
import sys

FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter",
         "-Wno-unused-variable", "-Wno-unused-function", "-Wno-missing-field-initializers",
         "-fsyntax-only", "-x", "c"]


def headers(root):
    for path in sorted(root.rglob("*.h")):
        relative = path.relative_to(root)
        if not relative.parts[0].startswith(("build", ".")):
            yield relative


def main():
    root = pathlib.Path(sys.argv[1])
    failed = []
    count = 0
    for header in headers(root):
        count += 1
        # Twice: #pragma once must hold.
        text = f'#include "{header}"\n#include "{header}"\nint main(void) {{ return 0; }}\n'
        done = subprocess.run([*sys.argv[2:], *FLAGS, "-I", root, "-I", root / header.parent, "-"],
                              input=text, text=True, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            failed.append(f"{header}:\n{done.stderr}")
    print("\n".join(failed) if failed else f"{count} headers compile alone")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
