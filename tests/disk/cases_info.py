# SPDX-License-Identifier: MIT
"""What an image is said to be."""

import os
import re
import shutil
import struct

import images
from cases import check
from harness import Holder, same
from images import Image

FAILED, USAGE = 1, 2


def ours(host, name):
    return host.ok("info", "--json", name).json()


def theirs(host, name):
    return host.qemu("qemu-img", "info", "-U", "--output=json", name).json()


def agree(host, name, what):
    """All that QEMU says we say, too."""
    mine, other = ours(host, name), theirs(host, name)
    data = other.get("format-specific", {}).get("data", {})
    if "encrypt" in data:
        data["encrypt"] = {"format": data["encrypt"]["format"]}  # no more than that
    if other["format"] not in ("raw", "qcow2"):
        other.pop("format-specific", None)
    for key, value in other.items():
        same(mine.get(key), value, f"{what}: {key}")
    same(sorted(set(mine) - set(other)), ["minivmm"], f"{what}: other keys")
    return mine


def info(host):
    for kind, make in images.KINDS.items():
        make(host, kind)
        mine = agree(host, kind, kind)
        check(mine["minivmm"]["opens"] in ("yes", "readonly", "no"), mine)
        text = host.ok("info", kind).out
        for line in ("file format: qcow2", f"({mine['virtual-size']} bytes)"):
            check(line in text, f"{kind}: {text}")
    for kind in ("aes", "refcounts-1"):
        same(ours(host, kind)["minivmm"]["opens"], "readonly", kind)
    for kind in ("luks",):
        same(ours(host, kind)["minivmm"]["opens"], "no", kind)
    check("format=qcow2" in ours(host, "v3")["minivmm"]["disk"], "the --disk of an odd name")


def info_formats(host):
    """Other formats, by their signatures; what none has is raw."""
    for fmt in ("qcow", "vmdk", "vdi", "vhdx", "vpc", "qed", "parallels"):
        host.qemu("qemu-img", "create", "-q", "-f", fmt, f"a.{fmt}", "64M")
        mine = ours(host, f"a.{fmt}")
        same(mine["format"], fmt, fmt)
        if fmt == "qcow":
            agree(host, "a.qcow", fmt)
            same(mine["minivmm"]["opens"], "readonly", fmt)
        else:
            same(mine["minivmm"]["opens"], "no", fmt)
            check("qemu-img convert" in mine["minivmm"]["why"], mine)
    host.ok("create", "a.img", "3M")
    agree(host, "a.img", "raw")
    host.ok("create", "b.qcow2", "3M", "-f", "raw")
    check("format=raw" in agree(host, "b.qcow2", "raw")["minivmm"]["disk"], "the --disk")
    (host.tmp / "empty").touch()
    same(ours(host, "empty")["minivmm"]["opens"], "no", "an empty file")


def info_backing(host):
    """Names below are shown, and not followed."""
    (host.tmp / "sub").mkdir()
    for name, backing in (("a.qcow2", "missing.qcow2"), ("sub/b.qcow2", "../c.qcow2"),
                          ("c.qcow2", "/no/where"), ("d.qcow2", "nbd://host/x")):
        host.qemu("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", "raw", name,
                  "1M")
        mine = ours(host, name)
        same(mine["backing-filename"], backing, name)
        want = backing if backing[0] == "/" or ":" in backing else os.path.join(
            os.path.dirname(name), backing)
        same(mine["full-backing-filename"], want, name)
        check(backing in host.ok("info", name).out, name)


def info_in_use(host):
    """An image in use is looked at all the same."""
    host.ok("create", "a.qcow2", "1M")
    with Holder(host, "a.qcow2"):
        same(ours(host, "a.qcow2")["minivmm"]["in-use"], "written", "in use")
        check("in use: written" in host.ok("info", "a.qcow2").out, "in use")
    same(ours(host, "a.qcow2")["minivmm"]["in-use"], "no", "in use")


def info_odd(host):
    """Marks, damage, and names that a terminal would obey."""
    images.KINDS["snapshots"](host, "whole")

    def patched(at, value, length=8):
        shutil.copy(host.tmp / "whole", host.tmp / "bad")
        Image(host.tmp / "bad").put(at, value, length)

    check(re.search(r"\n  1 +0 B ", host.ok("info", "whole").out), "the snapshot's line")
    patched(72, 3)
    mine = ours(host, "bad")
    same((mine["dirty-flag"], mine["format-specific"]["data"]["corrupt"],
          mine["minivmm"]["opens"]), (True, True, "readonly"), "marks")
    patched(72, 1 << 50)
    mine = ours(host, "bad")
    check(mine["minivmm"]["opens"] == "no" and "50" in mine["minivmm"]["why"], mine)
    patched(40, 1 << 50)
    check("L1" in ours(host, "bad")["minivmm"]["why"], "L1 outside")
    patched(24, 0)
    check("no size" in ours(host, "bad")["minivmm"]["why"], "no size")
    for at, value, length, word in ((20, 8, 4, "cluster size"), (4, 3 << 8, 4, "qcow"),
                                    (100, 7, 4, "header")):
        patched(at, value, length)
        host.refused(FAILED, [word], "info", "bad")
    patched(64, 1 << 50)
    host.refused(FAILED, ["snapshots"], "info", "bad", "--json")
    check("cannot be read" in host.ok("info", "bad").out, "snapshots")
    # Escape sequences, and what is no UTF-8
    image = Image(host.tmp / "whole")
    name = image.snapshots_at + 40 + image.get(image.snapshots_at + 36, 4) + 1
    for text in (b"\x1b[2", b"\xff\xfe\x80"):
        shutil.copy(host.tmp / "whole", host.tmp / "bad")
        Image(host.tmp / "bad").write(name, text)
        check("\x1b" not in host.ok("info", "bad").out, "escapes")
        ours(host, "bad")
    shutil.copy(host.tmp / "whole", os.fsencode(host.tmp) + b"/\xff,\n")
    check("?,,\n" in ours(host, b"\xff,\n".decode(errors="surrogateescape"))["minivmm"]["disk"],
          "an odd name")
    with open(host.tmp / "short", "wb") as file:
        file.write(struct.pack(">4sI", b"QFI\xfb", 3))
    host.refused(FAILED, ["short"], "info", "short")


def info_refuses(host):
    (host.tmp / "folder").mkdir()
    for status, words, args in ((FAILED, ["missing"], ["missing"]),
                                (FAILED, ["folder"], ["folder"]),
                                (FAILED, ["/dev/null"], ["/dev/null"]), (USAGE, ["name"], []),
                                (USAGE, ["extra"], ["a", "extra"]), (USAGE, ["-x"], ["-x", "a"]),
                                (USAGE, ["-x: unknown"], ["--json", "-xy", "a"]),
                                (USAGE, ["-?: unknown"], ["--json", "-\xf6", "a"]),
                                (USAGE, ["-:: unknown"], ["-:", "a"]),
                                (USAGE, ["--json=1: this option takes no"], ["--json=1", "a"]),
                                (USAGE, ["--help=1: this option takes no"], ["--help=1", "a"])):
        host.refused(status, words, "info", *args)


CASES = {
    "info": info,
    "info-backing": info_backing,
    "info-formats": info_formats,
    "info-in-use": info_in_use,
    "info-odd": info_odd,
    "info-refuses": info_refuses,
}
