# SPDX-License-Identifier: MIT
"""Images of many kinds, made by QEMU's tools, and their tables, to be damaged by hand."""

import os
import struct

from cases import check

OFFSET = 0x00FFFFFFFFFFFE00
COPIED = 1 << 63
COMPRESSED = 1 << 62


class Image:
    """The tables of a qcow2 file; entries are written through."""

    def __init__(self, path):
        self.path = path
        (_, self.version, _, _, self.bits, self.size, _, self.l1_entries, self.l1,
         self.reftable, _, self.snapshots, self.snapshots_at) = struct.unpack(
             ">IIQIIQIIQQIIQ", self.read(0, 72))
        self.cluster = 1 << self.bits
        self.refcount_order = self.get(96, 4) if self.version > 2 else 4

    def read(self, at, length):
        with open(self.path, "rb") as file:
            file.seek(at)
            return file.read(length)

    def write(self, at, data):
        with open(self.path, "r+b") as file:
            file.seek(at)
            file.write(data)

    def get(self, at, length=8):
        return int.from_bytes(self.read(at, length), "big")

    def put(self, at, value, length=8):
        self.write(at, value.to_bytes(length, "big"))

    def l2(self, index=0):
        """Where the table is that L1's `index` leads to."""
        return self.get(self.l1 + 8 * index) & OFFSET

    def l2_at(self, guest):
        """Where the L2 entry of a guest cluster is (no subclusters)."""
        entries = self.cluster // 8
        return self.l2(guest // entries) + 8 * (guest % entries)

    def refblock(self, index=0):
        return self.get(self.reftable + 8 * index)

    def refcount_at(self, cluster):
        """(byte in the file, its bits' shift, how many bits)"""
        bits = 1 << self.refcount_order
        per_block = self.cluster * 8 // bits
        block, index = self.refblock(cluster // per_block), cluster % per_block
        return block + index * bits // 8, index * bits % 8, bits

    def refcount(self, cluster):
        at, shift, bits = self.refcount_at(cluster)
        return self.get(at, max(bits // 8, 1)) >> shift & ((1 << bits) - 1)

    def set_refcount(self, cluster, value):
        at, shift, bits = self.refcount_at(cluster)
        if bits < 8:
            byte = self.get(at, 1) & ~(((1 << bits) - 1) << shift)
            self.put(at, byte | value << shift, 1)
        else:
            self.put(at, value, bits // 8)

    def clusters(self):
        return (os.stat(self.path).st_size + self.cluster - 1) // self.cluster


def plain(options="", size="64M", *commands):
    """A maker of an image with data here and there."""
    def make(host, name):
        words = ["-o", options] if options else []
        host.qemu("qemu-img", "create", "-q", "-f", "qcow2", *words, name, size)
        host.qemu_io(name, *(commands or ("write -P 1 0 256k", "write -P 2 1M 100k",
                                          "write -z 2M 1M", "write -P 3 63M 64k",
                                          "write -P 4 40M 1k")))
    return make


def snapshots(options=""):
    def make(host, name):
        plain(options)(host, name)
        for tag in ("one", "two", "three"):
            host.qemu("qemu-img", "snapshot", "-c", tag, name)
            host.qemu_io(name, "write -P 9 128k 256k", "discard 1M 64k", "write -z 30M 2M",
                         "write -P 5 50M 200k")
        host.qemu("qemu-img", "snapshot", "-d", "two", name)
    return make


def compressed(options=""):
    def make(host, name):
        plain()(host, "from.qcow2")
        host.qemu_io("from.qcow2", "write -P 7 5M 3M")
        with open(host.tmp / "noise", "wb") as file:
            file.write(os.urandom(300000))
        host.qemu_io("from.qcow2", "write -s noise 10M 293k")
        words = ["-o", options] if options else []
        host.qemu("qemu-img", "convert", "-c", "-O", "qcow2", *words, "from.qcow2", name)
        host.qemu_io(name, "write -P 8 5M 100k")
    return make


def bitmaps(host, name):
    plain()(host, name)
    for bitmap in ("old", "new"):
        host.qemu("qemu-img", "bitmap", "--add", name, bitmap)
        host.qemu_io(name, "write -P 6 8M 200k")


def backed(options=""):
    def make(host, name):
        plain()(host, "below.qcow2")
        words = ["-o", options] if options else []
        host.qemu("qemu-img", "create", "-q", "-f", "qcow2", *words, "-b", "below.qcow2", "-F",
                  "qcow2", name, "80M")
        host.qemu_io(name, "write -P 1 128k 256k", "discard 1M 64k", "write -z 62M 1M",
                     "write -P 5 70M 200k")
    return make


def encrypted(kind):
    def make(host, name):
        secret = ["--object", "secret,id=s,data=x"]
        more = ",encrypt.iter-time=10" if kind == "luks" else ""
        command = ["qemu-img", "create", "-q", "-f", "qcow2", *secret, "-o",
                   f"encrypt.format={kind},encrypt.key-secret=s{more}", name, "16M"]
        for _ in range(20):  # it measures its own speed, and on a busy machine that fails
            result = host.run(*command)
            if "accurate CPU usage" not in result.err:
                break
        check(result.status == 0, result)
        host.qemu("qemu-io", *secret, "-c", "write -P 5 1M 200k", "--image-opts",
                  f"driver=qcow2,encrypt.format={kind},encrypt.key-secret=s,file.filename={name}")
    return make


def empty(host, name):
    host.qemu("qemu-img", "create", "-q", "-f", "qcow2", name, "1G")


KINDS = {
    "empty": empty,
    "v2": plain("compat=0.10"),
    "v3": plain("compat=1.1"),
    "clusters-512": plain("cluster_size=512"),
    "clusters-4k": plain("cluster_size=4k"),
    "clusters-2M": plain("cluster_size=2M"),
    "snapshots": snapshots(),
    "snapshots-v2": snapshots("compat=0.10"),
    "snapshots-4k": snapshots("cluster_size=4k"),
    "snapshots-64": snapshots("refcount_bits=64"),
    "deflate": compressed(),
    "deflate-v2": compressed("compat=0.10"),
    "deflate-4k": compressed("cluster_size=4k"),
    "deflate-2M": compressed("cluster_size=2M"),
    "zstd": compressed("compression_type=zstd"),
    "bitmaps": bitmaps,
    "backed": backed(),
    "backed-v2": backed("compat=0.10"),
    "preallocated": plain("preallocation=metadata"),
    "lazy": plain("lazy_refcounts=on"),
    "data-file": plain("data_file=data.raw"),
    "data-file-raw": plain("data_file=data.raw,data_file_raw=on"),
    "extended-l2": plain("extended_l2=on,cluster_size=128k"),
    "extended-l2-backed": backed("extended_l2=on"),
    "aes": encrypted("aes"),
    "luks": encrypted("luks"),
    **{f"refcounts-{bits}": plain(f"refcount_bits={bits}") for bits in (1, 2, 4, 8, 16, 32, 64)},
    "odd-size": plain("", "33333k", "write -P 1 0 256k", "write -P 2 33300k 33k"),
}

# What cannot be opened without a key.
KEYS = {kind: ["--object", "secret,id=s,data=x"] for kind in ("aes", "luks")}


def image_options(kind, name):
    """How QEMU's tools are told of the image."""
    if kind not in KEYS:
        return ["-f", "qcow2", name]
    return [*KEYS[kind], "--image-opts",
            f"driver=qcow2,encrypt.format={kind},encrypt.key-secret=s,file.filename={name}"]
