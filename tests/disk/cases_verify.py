# SPDX-License-Identifier: MIT
"""Reading an image with two engines."""

import os
import random
import struct

from cases import check
from harness import same

SAME, FAILED, UNEXPLAINED, KNOWN = range(4)
OFFSET = 0x00fffffffffffe00


def verify(host, image, status, *says):
    result = host.disk("verify", image)
    check(result.status == status, result)
    for text in says:
        check(text in result.out, f"no '{text}': {result}")
    return result


def source(host, size):
    """Zeroes, text and noise."""
    chance = random.Random(5)
    with open(host.tmp / "source", "wb") as file:
        while file.tell() < size:
            at = file.tell()
            kind = chance.randrange(4)
            part = (bytes(30000) if kind == 0 else chance.randbytes(30000) if kind == 1 else
                    (b"%d " % at) * 5000)
            file.write(part[:min(len(part), size - at)])


def verify_same(host):
    """No differences, whatever the kind of image."""
    source(host, 6000128)
    for compat in ("0.10", "1.1"):
        for cluster in ("512", "64k", "2M"):
            for compressed in ([], ["-c"]):
                host.qemu("qemu-img", "convert", *compressed, "-f", "raw", "-O", "qcow2", "-o",
                          f"compat={compat},cluster_size={cluster}", "source", "a.qcow2")
                verify(host, "a.qcow2", SAME, " the same\n")
    # written over, with a snapshot, and unclean
    host.qemu("qemu-img", "snapshot", "-c", "one", "a.qcow2")
    host.qemu_io("a.qcow2", "write -P 7 1M 3M", "write -P 8 12345 1")
    verify(host, "a.qcow2", SAME)
    host.qemu("qemu-img", "create", "-f", "qcow2", "-o", "lazy_refcounts=on", "b.qcow2", "1T")
    host.run("qemu-io", "-f", "qcow2", "-c", "write -P 3 900G 1M", "-c", "abort", "b.qcow2")
    verify(host, "b.qcow2", SAME, "16777216 the same")
    # what the file's end cuts off reads as zeroes
    host.qemu("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "source", "a.qcow2")
    os.truncate(host.tmp / "a.qcow2", os.stat(host.tmp / "a.qcow2").st_size - 70001)
    verify(host, "a.qcow2", SAME)


def verify_backing(host):
    """Of an image over another what is in itself."""
    host.qemu("qemu-img", "create", "-f", "qcow2", "base.qcow2", "8M")
    host.qemu_io("base.qcow2", "write -P 1 0 8M")
    for compat in ("0.10", "1.1"):
        host.qemu("qemu-img", "create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2",
                  "-o", f"compat={compat}", "a.qcow2")
        host.qemu_io("a.qcow2", "write -P 2 1M 256k")
        verify(host, "a.qcow2", SAME, "4 the same, 124 left to the backing file")
    host.qemu_io("a.qcow2", "write -z 1M 64k")
    os.unlink(host.tmp / "base.qcow2")  # which is not looked for: an image may name any file
    verify(host, "a.qcow2", KNOWN, "0x100000-0x10ffff (1 zero cluster)")


def verify_known(host):
    """Zero clusters, with and without a place of their own."""
    host.qemu("qemu-img", "create", "-f", "qcow2", "a.qcow2", "8M")
    host.qemu_io("a.qcow2", "write -P 1 0 1M", "write -z 128k 192k", "write -z 4M 64k")
    result = verify(host, "a.qcow2", KNOWN, "0x20000-0x4ffff (3 zero clusters): different from "
                    "byte 0x20000 on", "0x400000-0x40ffff (1 zero cluster)", "does not know zero",
                    "124 the same, 4 differ for known reasons")
    check(not result.err, result)
    # In version 2 there are none.
    host.qemu("qemu-img", "create", "-f", "qcow2", "-o", "compat=0.10", "a.qcow2", "8M")
    host.qemu_io("a.qcow2", "write -P 1 0 1M", "write -z 128k 192k")
    verify(host, "a.qcow2", SAME)


def get(image, at):
    return struct.unpack(">Q", image[at:at + 8])[0]


def damaged(host, change):
    """A compressed image of 16 clusters, changed by change(image, L2 table's offset)."""
    source(host, 1 << 20)
    host.qemu("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "source", "a.qcow2")
    image = bytearray((host.tmp / "a.qcow2").read_bytes())
    change(image, get(image, get(image, 40)) & OFFSET)
    (host.tmp / "a.qcow2").write_bytes(image)


def verify_unexplained(host):
    """Damage on which the two do not agree, or do."""
    def ends_early(image, l2):
        at = get(image, l2 + 8 * 3) & (1 << 54) - 1
        image[at:at + 12] = b"\x01\x07\x00\xf8\xffminivmm"

    def nonsense(image, l2):
        at = get(image, l2 + 8 * 3) & (1 << 54) - 1
        image[at:at + 12] = b"\xff" * 12

    def unaligned(image, l2):
        struct.pack_into(">Q", image, l2 + 8 * 3, 0x8000000000030200)

    damaged(host, ends_early)
    verify(host, "a.qcow2", UNEXPLAINED, "0x30000-0x3ffff (1 compressed cluster): only libqcow",
           "15 the same, 1 differ")
    damaged(host, nonsense)
    verify(host, "a.qcow2", UNEXPLAINED, "0x30000-0x3ffff (1 compressed cluster): damaged")
    damaged(host, unaligned)
    verify(host, "a.qcow2", UNEXPLAINED, "0x30000-0x3ffff (1 data cluster): only libqcow")


def verify_refuses(host):
    """What cannot be compared."""
    host.qemu("qemu-img", "create", "-f", "raw", "raw.img", "1M")
    host.qemu("qemu-img", "create", "-f", "qcow", "one.qcow", "1M")
    host.qemu("qemu-img", "create", "-f", "qcow2", "-o", "compression_type=zstd", "zstd.qcow2",
              "1M")
    host.qemu("qemu-img", "create", "-f", "qcow2", "-o", "extended_l2=on", "extended.qcow2", "1M")
    for args in (["raw.img"], ["one.qcow"], ["zstd.qcow2"], ["extended.qcow2"], ["nowhere"], [],
                 ["raw.img", "raw.img"], ["--frobnicate", "raw.img"]):
        result = host.disk("verify", *args)
        check(result.status == FAILED and not result.out and result.err.count("\n") == 1, result)
    result = host.disk("verify", "--help")
    check(result.status == 0 and "libqcow" in result.out, result)
    same(host.disk("--help").out.count("verify"), 1, "in the list of commands")


CASES = {
    "verify-backing": verify_backing,
    "verify-known": verify_known,
    "verify-refuses": verify_refuses,
    "verify-same": verify_same,
    "verify-unexplained": verify_unexplained,
}
