# SPDX-License-Identifier: MIT
"""Small files that would cost much: memory, time and output are bounded all the same."""

import resource
import struct
import time

from cases import check
from images import COPIED, Image

FAILED, CORRUPT = 1, 2


def hostile(host, name, l1_entries=1, snapshots=0, file_bytes=1 << 44):
    """An image whose tables are ours to fill: L1 at 1 MiB, snapshots at 64 MiB."""
    path = host.tmp / name
    with open(path, "wb") as file:
        file.truncate(file_bytes)
        file.write(struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 16, 1 << 29, 0,
                               l1_entries, 1 << 20, 1 << 16, 1, snapshots, 64 << 20, 0, 0, 0, 4,
                               104))
    return Image(path)


def bounded(host, name, statuses, what):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    start = time.monotonic()
    result = host.disk("check", name)
    took, most = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"{what}: {took:.1f} s, at most {most >> 10} MiB, {result.out[-200:]}{result.err}")
    check(result.status in statuses, f"{what}: {result}")
    check(most < max(before, 500 << 10), f"{what}: {most >> 10} MiB")
    check(took < 150, f"{what}: {took} s")
    check(len(result.out) < 20000, f"{what}: {len(result.out)} bytes of output")


def check_hostile(host):
    """Small files that would cost much: memory and time are bounded all the same."""
    l2, size = 900 << 20, 1 << 44
    # References all over a file of 16 TiB
    image = hostile(host, "a")
    image.put(1 << 20, l2 | COPIED)
    image.write(l2, b"".join(struct.pack(">Q", (i * (size // 8192) & ~0xFFFF) | COPIED)
                             for i in range(8192)))
    bounded(host, "a", (FAILED, CORRUPT), "scattered clusters")
    # 4M L1 entries that lead to the same table
    image = hostile(host, "b", l1_entries=4 << 20)
    image.write(1 << 20, struct.pack(">Q", l2 | COPIED) * (4 << 20))
    image.write(l2, struct.pack(">Q", 1 << 30 | COPIED) * 8192)
    bounded(host, "b", (CORRUPT,), "one table for all")
    # Snapshots with L1 tables that lie over each other
    for name, shift in (("c", 0), ("d", 1 << 16)):
        image = hostile(host, name, snapshots=65535)
        image.write(1 << 30, struct.pack(">Q", l2) * (4 << 20))
        image.write(64 << 20, b"".join(struct.pack(">QIHHIIQII", (1 << 30) + i * shift, 4 << 20,
                                                   0, 0, 0, 0, 0, 0, 0) for i in range(65535)))
        bounded(host, name, (CORRUPT,), f"65535 snapshots, {shift} bytes apart")
    # A refcount table full of blocks; all the same one, and all of them holes
    for name, step in (("e", 0), ("f", 1 << 16)):
        image = hostile(host, name, file_bytes=1 << 42)
        image.put(56, 128, 4)
        image.put(40, 9 << 20)
        image.write(1 << 16, b"".join(struct.pack(">Q", (1 << 40) + i * step)
                                      for i in range(1 << 20)))
        image.write(1 << 40, b"\1" * 65536)
        bounded(host, name, (CORRUPT,), f"refcount blocks, {step} bytes apart")
    # Bitmaps: tables of 1 GiB, in a directory of 64 MiB
    image = hostile(host, "g")
    image.put(88, 1)
    image.write(104, struct.pack(">IIIIQQQ", 0x23852875, 24, 65535, 0, 65535 * 24, 1 << 36, 0))
    image.write(1 << 36, struct.pack(">QIIBBHI", 1 << 37, 1 << 27, 0, 1, 16, 0, 0) * 65535)
    bounded(host, "g", (CORRUPT,), "bitmaps")


CASES = {
    "check-hostile": check_hostile,
}
