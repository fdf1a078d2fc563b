#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Who includes whom: checks the sources against the table in docs/architecture.md.

    layering.py [ROOT]

Also that includes are root-relative (a test's may be its folder's own), that a .c file includes
its own header first, then the system's, then ours, and that every header says #pragma once.
"""

import pathlib
import re
import sys

# Who wraps which library.
ONLY_IN = {"liburing.h": ["util"], "libmnl/libmnl.h": ["net"], "nftables/libnftables.h": ["net"],
           "libdeflate.h": ["block", "boot"], "zstd.h": ["block", "boot"], "lz4.h": ["boot"],
           "lzma.h": ["boot"], "jansson.h": ["cmd"]}
ROW = re.compile(r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|$", re.MULTILINE)
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)


def read_table(text):
    """{folder: folders it may include}, itself among them."""
    table = {}
    for folder, cell in ROW.findall(text):
        table[folder] = {folder, *re.findall(r"`(\w+)`", cell)}
    return table


def check_target(table, root, path, target):
    """What is wrong with `path` including our `target`, or None."""
    folder = path.parts[0] if len(path.parts) > 1 else None
    if folder == "tests" and (root / path.parent / target).is_file():
        return None
    if not (root / target).is_file():
        return f'"{target}" is not the name of a file below the root'
    if folder not in table:
        return None  # the root and the tests may include everything
    owner = target.split("/")[0] if "/" in target else "the root"
    if owner not in table[folder]:
        return f"{folder}/ must not include {target}"
    return None


def check_order(path, includes):
    """Own header, system headers, our headers; in that order."""
    own = str(path.with_suffix(".h"))
    ours = [target for kind, target in includes if kind == '"']
    if path.suffix == ".c" and own in ours and includes[0][1] != own:
        return f"{own} must come first"
    # "Own" is also the header of a folder or a module that the file implements a part of.
    rest = [kind for kind, _ in includes[1:]]
    if '"' in rest and "<" in rest[rest.index('"'):]:
        return "system headers come before ours"
    return None


def check_file(table, root, path):
    text = (root / path).read_text(encoding="utf-8")
    includes = INCLUDE.findall(text)
    folder = path.parts[0]
    errors = []
    for kind, target in includes:
        if kind == '"':
            errors.append(check_target(table, root, path, target))
        elif folder in table and folder not in ONLY_IN.get(target, [folder]):
            errors.append(f"only {'/, '.join(ONLY_IN[target])}/ may include <{target}>")
    if folder in table or len(path.parts) == 1:
        errors.append(check_order(path, includes))
    if path.suffix == ".h" and "\n#pragma once\n" not in text:
        errors.append("#pragma once is missing")
    return [f"{path}: {error}" for error in errors if error]


def sources(root, table):
    folders = [*table, "tests"]
    yield from (path.relative_to(root) for path in root.glob("*.[ch]"))
    for folder in folders:
        yield from (path.relative_to(root) for path in (root / folder).rglob("*.[ch]"))


def main():
    here = pathlib.Path(__file__).resolve().parent.parent
    root = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else here
    table = read_table((root / "docs" / "architecture.md").read_text(encoding="utf-8"))
    if len(table) < 7:
        print("docs/architecture.md: the table of folders is not there")
        return 1
    files = sorted(sources(root, table))
    errors = [error for path in files for error in check_file(table, root, path)]
    print("\n".join(errors) if errors else f"{len(files)} files follow the table")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
