# SPDX-License-Identifier: MIT
"""Where the parts of a disk are."""

import os
import re
import shutil

import images
from cases import check
from harness import Holder, same
from images import Image

FAILED, USAGE = 1, 2
KEYS = ("start", "length", "depth", "present", "zero", "data", "offset")


def ours(host, name, *options):
    return host.ok("map", "--json", name, *options).json()


def agree(host, fmt, name, what, *options):
    mine = ours(host, name, "--format", fmt, *options)
    other = host.qemu("qemu-img", "map", "-U", "--output=json", "-f", fmt, name).json()
    same(merged(mine), merged(other), what)
    return mine


def merged(items):
    """QEMU sometimes, and we never, tells clusters from holes of the file that they are in."""
    result = []
    for item in items:
        item = {key: item.get(key) for key in KEYS}
        item["zero"] = item["zero"] and not item["data"]
        last = result[-1] if result else None
        if last and all(last[key] == item[key] for key in ("depth", "present", "zero", "data")) \
                and item["offset"] == (last["offset"] and last["offset"] + last["length"]):
            last["length"] += item["length"]
        else:
            result.append(item)
    return result


def map_kinds(host):
    for kind, make in images.KINDS.items():
        if kind in images.KEYS or kind.startswith("extended"):
            continue
        make(host, kind)
        follow = kind.startswith(("backed", "data-file"))
        options = ["--backing", "on"] if follow else []
        if kind == "data-file-raw":  # that file is the disk, whatever the image says of zeroes
            mine = ours(host, kind, "--format", "qcow2", *options)
            same([(item["start"], item["offset"], item["length"]) for item in mine],
                 [(0, 0, 64 << 20)], kind)
            continue
        mine = agree(host, "qcow2", kind, kind, *options)
        if kind == "data-file":
            check({item.get("filename") for item in mine if item["data"]} == {"data.raw"}, mine)
        packed = sum(item["length"] for item in mine if item["compressed"])
        check((packed > 0) == (kind.startswith("deflate") or kind == "zstd"), f"{kind}: {mine}")
        if not packed:
            text = host.ok("map", kind, "--format", "qcow2", *options).out
            table = [re.split(r"\s+", line) for line in text.splitlines()[1:]]
            same([[int(number, 16) for number in line[:3]] for line in table],
                 [[item["start"], item["length"], item["offset"]] for item in mine
                  if item["data"]], kind)


def map_raw(host):
    with open(host.tmp / "a.img", "wb") as file:
        file.truncate(40 << 20)
        for at in (0, 5 << 20, (40 << 20) - 4096):
            file.seek(at)
            file.write(b"x" * 4096)
    agree(host, "raw", "a.img", "raw")
    host.ok("create", "empty.img", "1G")
    agree(host, "raw", "empty.img", "empty")
    with open(host.tmp / "odd.img", "wb") as file:
        file.write(b"x" * 5000)
    same(sum(item["length"] for item in ours(host, "odd.img")), 5120, "a part of a sector")


def map_chain(host):
    """Files below, of their own lengths; each part says which it is in."""
    (host.tmp / "sub").mkdir()
    host.ok("create", "sub/base.img", "10M")
    host.qemu_io("sub/base.img", "write -P 1 0 64k", "write -P 1 9M 1M", fmt="raw")
    host.ok("create", "sub/mid.qcow2", "30M", "-b", "base.img", "-c", "4K")
    host.qemu_io("sub/mid.qcow2", "write -P 2 1M 100k", "write -z 9M 100k", "write -P 2 29M 1M")
    host.ok("create", "top.qcow2", "50M", "-b", "sub/mid.qcow2")
    host.qemu_io("top.qcow2", "write -P 3 0 64k", "discard 1M 64k", "write -P 3 28900k 300k",
                 "write -P 3 49M 1M")
    mine = agree(host, "qcow2", "top.qcow2", "chain", "--backing", "on")
    same({item["depth"] for item in mine if item["present"]}, {0, 1, 2}, "depths")
    same({item["filename"] for item in mine if item["present"]},
         {"top.qcow2", "sub/mid.qcow2", "sub/base.img"}, "files")
    ours(host, "top.qcow2", "--backing", "./sub")
    host.refused(FAILED, ["backing=on"], "map", "top.qcow2")
    host.refused(FAILED, ["sub/mid.qcow2"], "map", "top.qcow2", "--backing", "/var")


def map_refuses(host):
    images.KINDS["v3"](host, "whole")
    for status, words, args in (
            (FAILED, ["missing"], ["missing"]), (FAILED, ["whole", "format=qcow2"], ["whole"]),
            (USAGE, ["vmdk"], ["whole", "-f", "vmdk"]), (USAGE, ["name"], []),
            (USAGE, ["maybe"], ["whole", "--backing", "maybe"])):
        host.refused(status, words, "map", *args)
    with Holder(host, "whole"):
        host.refused(FAILED, ["in use"], "map", "whole", "-f", "qcow2")
    shutil.copy(host.tmp / "whole", host.tmp / "bad.qcow2")
    image = Image(host.tmp / "bad.qcow2")
    image.put(image.l2_at(0), (1 << 50) | images.COPIED)
    result = host.disk("map", "bad.qcow2")
    check(result.status == FAILED and "corrupt" in result.err, result)
    os.truncate(host.tmp / "whole", 100)
    host.refused(FAILED, ["whole"], "map", "whole", "-f", "qcow2")


CASES = {
    "map": map_kinds,
    "map-chain": map_chain,
    "map-raw": map_raw,
    "map-refuses": map_refuses,
}
