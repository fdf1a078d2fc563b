#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
The block layer as a black box: mvblk beside QEMU's tools, on cases that once broke qcow2
implementations. What QEMU's own tests of the numbers named look at is looked at here in our
way.

    black_box.py --mvblk build/tests/block/mvblk [NAME...]

Exit status 0, 1, or 77 where there are no tools of QEMU's.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

from images import (BOX, COMPRESSED, COPIED, CORRUPT, K, M, SIZES, Image, Model, Skip, run,
                    small_file_system)


# ---- patterns (013, 014, 027)

def test_patterns_013():
    """Offsets around cluster and table boundaries, in all orders of neighbours."""
    for options in ("compat=0.10,cluster_size=4k", "cluster_size=512", "cluster_size=64k"):
        image, model = Image("p.qcow2", "32M", options), Model(32 * M)
        pattern = 0
        for base in (0, 2 * M - 8 * K, 16 * M + 4 * K):  # the second: L2's end at 4k
            for step in (512, 4 * K, 12 * K):
                for number in (3, 0, 2, 1, 5, 4, 1):
                    pattern = pattern % 255 + 1
                    model.write(pattern, base + number * step, step + 512)
        model.apply(image)
        model.agrees(image)


def test_parts_of_clusters_027():
    """What a write leaves of a new cluster is zero, on both sides, also when read at once."""
    for name, size in SIZES.items():
        image = Image("s.qcow2", "16M", "cluster_size=" + name)
        middle = size // 2 // 512 * 512
        image.ours("write -P 9 %d 512" % (4 * size + middle), "read -P 0 0 %d" % (4 * size),
                   *(["read -P 0 %d %d" % (4 * size, middle)] if middle else []))
        image.holds((9, 4 * size + middle, 512), (0, 5 * size, 2 * size))
        image.check()


def test_snapshots_014():
    """A snapshot is as it was, whatever is written over it, for several of them."""
    for options in ("compat=0.10", "cluster_size=4k", "cluster_size=512"):
        image = Image("n.qcow2", "8M", options)
        for number in range(1, 5):
            image.ours("write -q -P %d 0 6M" % number)
            run("qemu-img", "snapshot", "-c", "s%d" % number, image.path)
            image.ours("write -q -P %d %d 1536" % (100 + number, 1000 * 512 * number),
                       "discard -q 4M 1M", "write -q -z 5M 100K")
            image.check()
        for number in range(4, 0, -1):
            run("qemu-img", "snapshot", "-a", "s%d" % number, image.path)
            image.holds((number, 0, 6 * M), (0, 6 * M, 2 * M))
            run("qemu-img", "snapshot", "-d", "s%d" % number, image.path)
            image.check()


def test_compressed_base_013():
    """Writes over compressed clusters, in part and whole, ours and of the file below."""
    for kind in ("zlib", "zstd"):
        plain = Image("plain.raw", "8M", form="raw")
        plain.theirs("write -P 1 0 3M", "write -P 2 5M 1M")
        packed = Image("packed.qcow2", "8M")
        run("qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type=" + kind,
            plain.path, packed.path)
        over = Image("over.qcow2", None, backing=packed)
        for image in (over, packed):
            image.ours("write -q -P 7 64K 64K", "write -q -P 8 131584 512",
                       "write -q -z 3014656 128K", "discard -q 5M 64K")
            image.holds((1, 0, 64 * K), (7, 64 * K, 64 * K), (1, 128 * K, 512),
                        (8, 128 * K + 512, 512), (1, 129 * K, 512), (0, 2944 * K, 128 * K))
            image.check()


# ---- zeroes over what lies below (034, 154, write-zeroes-unmap)

def test_zeroes_over_backing_154():
    """Every alignment of start and end, on clusters in every state."""
    size = 4 * K
    base = Image("base.qcow2", "1M", "cluster_size=4k")
    base.theirs("write -P 1 0 1M")
    for options in ("cluster_size=4k", "cluster_size=4k,compat=0.10"):
        image, model = Image("z.qcow2", None, options, base), Model(1 * M)
        model.bytes[:] = b"\1" * M
        for number, (start, end) in enumerate(
                (s, e) for s in (0, 512, 3584) for e in (512, 3584, 4096) if s < e):
            for state in range(3):  # not there, data, zero
                at = (number * 3 + state) * 3 * size
                if state == 1:
                    model.write(2, at, 3 * size)
                if state == 2:
                    model.write(0, at, 3 * size, "write -q -z")
                model.write(0, at + start, size + end - start, "write -q -z -u" if number % 2
                            else "write -q -z")
        model.apply(image)
        model.agrees(image)


def test_zeroes_past_backing_034():
    """The file below ends within a cluster: behind its end there is nothing of it."""
    base = Image("short.raw", "200704", form="raw")  # 49 * 4096
    base.theirs("write -P 3 0 200704")
    for options in ("cluster_size=64k", "cluster_size=64k,compat=0.10"):
        image, model = Image("l.qcow2", "1M", options, base), Model(1 * M)
        model.bytes[:200704] = b"\3" * 200704
        model.agrees(image)
        model.write(0, 196608, 512, "write -q -z")
        model.write(4, 201216, 512)
        model.write(0, 262144 - 512, 1024, "write -q -z")
        model.write(5, 1 * M - 512, 512)
        model.apply(image)
        model.agrees(image)


def test_unmap_gives_space_back():
    """write -z -u and discard make holes; write -z does not take space."""
    for options in ("compat=1.1", "compat=0.10"):
        image = Image("u.qcow2", "64M", options)
        image.ours("write -q -z 0 64M")
        assert image.used() < 1 * M, "zeroes took %d bytes" % image.used()
        image.ours("write -q 0 32M")
        full = image.used()
        image.ours("discard -q 0 16M", "write -q -z -u 16M 8M")
        image.holds((0, 0, 24 * M), (0xcd, 24 * M, 8 * M))
        image.check()
        assert full - image.used() >= 23 * M, "%d of %d are left" % (image.used(), full)
        image.ours("write -q -P 1 0 32M")
        assert image.used() <= full + 1 * M, "reuse took %d bytes" % (image.used() - full)
        image.holds((1, 0, 32 * M))


# ---- overlapping requests in flight (046)

def test_overlapping_046():
    """Requests that share new clusters, all at a time: none loses the other's part."""
    base = Image("below.raw", "4M", form="raw")
    base.theirs("write -P 99 0 4M")
    for below in (None, base):
        image = Image("o.qcow2", "4M", backing=below)
        left = 99 if below else 0
        commands = ["aio_write -q -P %d %d 24K" % (n % 200 + 1, n * 28 * K) for n in range(100)]
        commands += ["aio_discard -q 3M 64K", "aio_write -q -z 3200K 10K", "aio_flush"]
        image.ours(*commands)
        image.holds(*((n % 200 + 1, n * 28 * K, 24 * K) for n in range(100)),
                    *((left, n * 28 * K + 24 * K, 4 * K) for n in range(100)))
        image.check()


def test_same_cluster_046():
    """Sixteen writers and a zeroer of one cluster, then again over a snapshot."""
    image = Image("c.qcow2", "1M")
    for turn in (1, 2):
        image.ours(*("aio_write -q -P %d %d 4K" % (16 * turn + n, n * 4 * K) for n in range(16)),
                   "aio_write -q -P %d 64K 4K" % turn, "flush")
        image.holds(*((16 * turn + n, n * 4 * K, 4 * K) for n in range(16)))
        image.check()
        run("qemu-img", "snapshot", "-c", "t%d" % turn, image.path)


# ---- failures (026, 289, 039)

def test_no_space_026():
    """The host's disk is full half way: errors, and an image that is whole."""
    for options in ("cluster_size=64k", "cluster_size=512,compat=0.10"):
        with small_file_system(3 * M) as where:
            image = Image("small/f.qcow2", "64M", options)
            out = image.ours(*("write -q -P %d %dK 64K" % (n + 1, n * 64) for n in range(64)),
                             "read -q -P 1 0 64K", "discard -q 0 512K", "flush",
                             "write -q -P 77 4M 64K", status=1)
            assert "No space left" in out, out
            image.check(0, 3)
            image.holds((0, 0, 512 * K), (9, 512 * K, 64 * K), (77, 4 * M, 64 * K))
            image.path.unlink()
        where.rmdir()


def test_killed_writer_039():
    """Killed at once after a flush: what was flushed is there. Never a dirty bit of ours."""
    for options in ("compat=1.1", "lazy_refcounts=on", "compat=0.10", "cluster_size=512"):
        image = Image("k.qcow2", "64M", options)
        image.ours("write -q -P 5 1M 3M", "flush", "write -q -P 6 32M 1M", "sleep 1", "abort",
                   status=-9)
        image.released()
        image.check(0, 3)
        image.holds((5, 1 * M, 3 * M))
        if "compat=0.10" not in options:
            assert not image.incompatible()
        image.ours("write -q -P 7 1M 1M")
        image.holds((7, 1 * M, 1 * M), (5, 2 * M, 2 * M))


def test_dirty_from_qemu_039():
    """A lazy image whose writer QEMU killed is not written to before it is repaired."""
    image = Image("d.qcow2", "64M", "lazy_refcounts=on")
    image.theirs("write -P 5 0 1M", "flush", "abort", status=None)
    assert image.incompatible() & 1
    out = image.ours("write -q 0 512", status=1)
    assert "not closed properly" in out, out
    image.ours("read -q -P 5 0 1M", flags=("-r",))
    image.repair()
    image.ours("write -q -P 6 0 512")
    image.holds((6, 0, 512), (5, 512, 1 * M - 512))


# ---- damage (060, 080, 138, 214)

def test_overlap_060():
    """A cluster that is metadata, too: no write, the image marked; repaired it is good again."""
    for victim in ("L1", "refcount block", "refcount table"):
        image = Image("v.qcow2", "64M")
        image.ours("write -q -P 5 0 128K")
        at = {"L1": image.get(40), "refcount block": image.get(image.get(48)),
              "refcount table": image.get(48)}[victim]
        image.put(image.l2(), at | COPIED)
        before = image.get(at)
        out = image.ours("write -q -P 6 0 64K", "write -q -P 6 1M 64K", status=1)
        assert "metadata" in out, out
        assert image.incompatible() & CORRUPT and image.get(at) == before, victim
        out = image.ours("write -q 0 512", status=1)
        assert "corrupt" in out, out
        image.ours("read -q -P 5 64K 64K", flags=("-r",))
        image.repair()
        image.ours("write -q -P 7 0 64K")
        image.holds((7, 0, 64 * K), (5, 64 * K, 64 * K))
        image.check(0, 3)  # a repair may leave a leak


def test_far_away_138():
    """32 PiB away: an error for who reads that, and for nobody else."""
    image = Image("far.qcow2", "64M")
    image.ours("write -q -P 5 0 128K")
    image.put(image.l2(), 1 << 55 | COPIED)
    image.ours("read -q 0 512", status=1, flags=("-r",))
    image.ours("read -q -P 5 64K 64K", flags=("-r",))
    image = Image("far.qcow2", "64M")
    image.put(image.get(48) + 8, 1 << 55)
    assert "refcount block out of place" in image.ours("length", status=1)


def test_compressed_size_214():
    """The length of compressed data too short: an error. Too long: what follows is ignored."""
    for short in (False, True):
        image = Image("c.qcow2", "8M")
        with open(BOX.tmp / "noise.raw", "wb") as noise:
            noise.write((b"".join(os.urandom(30) + bytes(34) for _ in range(1024))) * 4)
            noise.truncate(8 * M)
        run("qemu-img", "convert", "-c", "-O", "qcow2", BOX.tmp / "noise.raw", image.path)
        at, shift = image.l2(), 62 - (16 - 8)
        entry = image.get(at)
        assert entry & COMPRESSED
        sectors = entry >> shift & 0xff
        image.put(at, entry & ~(0xff << shift) | (sectors // 3 if short else 0xff) << shift)
        image.ours("read -q 0 64K", status=1 if short else 0, flags=("-r",))
        image.ours("read -q 64K 64K", flags=("-r",))


# ---- growth and small caches (121, 103)

def test_refcounts_grow_121():
    """More clusters than a table of one cluster can count, of 512 bytes each."""
    image = Image("g.qcow2", "40M", "cluster_size=512")
    table = image.get(48)
    image.ours("write -q -P 5 0 20M", "flush", "write -q -P 6 20M 20M")
    assert image.get(48) != table, "the table did not move"
    image.check()
    image.holds((5, 0, 20 * M), (6, 20 * M, 20 * M))


def test_tiny_cache_103():
    """Eight slices of metadata for a thousand tables."""
    image, model = Image("t.qcow2", "32M", "cluster_size=512"), Model(32 * M)
    for turn in range(3):
        for number in range(0, 1000, 3):
            model.write((number * 7 + turn) % 255 + 1, number * 32 * K + turn * 512, 1024,
                        "aio_write -q" if number % 5 else "write -q")
    model.apply(image, "aio_flush", flags=("-C", "512"))
    model.agrees(image)


# ---- buffers (iov-padding)

def test_odd_buffers():
    """Pieces of any length, through the page cache and past it."""
    lengths = ["1 511", "4096 512 3584", "1 2 3 506", "513 511 1 1023", "100 " * 51 + "20",
               "1 " * 1023 + "1"]
    for flags in ((), ("-n",)):
        where = pathlib.Path("black-box.qcow2").absolute() if flags else BOX.tmp / "b.qcow2"
        image = Image(where, "4M")
        try:
            if flags and "no direct I/O" in image.ours("length", flags=flags, status=None):
                continue
            for number, words in enumerate(lengths):
                at = number * 68 * K
                image.ours("writev -q -P %d %d %s" % (number + 1, at, words),
                           "readv -q -P %d %d %s" % (number + 1, at, words), flags=flags)
                total = sum(map(int, words.split()))
                image.holds((number + 1, at, total), (0, at + total, 4 * K))
            image.check()
        finally:
            image.path.unlink()


# ---- the rest

def test_map():
    """What lies where, and how deep."""
    base = Image("base.qcow2", "1M")
    base.theirs("write -P 1 0 128K", "write -z 128K 64K")
    image = Image("m.qcow2", None, backing=base)
    image.ours("write -q 64K 64K")
    image.theirs("write -c 256K 64K")
    lines = [line.partition(" at ")[0] for line in image.ours("map").splitlines()]
    assert lines == ["0 65536 data depth 1", "65536 65536 data depth 0",
                     "131072 65536 zero depth 1", "196608 65536 hole",
                     "262144 65536 compressed depth 0", "327680 720896 hole"], lines
    assert image.ours("map 70K 1K").startswith("71680 1024 data depth 0 at ")


def test_command_line():
    """What mvblk says to mistakes."""
    image = Image("m.qcow2", "1M")
    for command in ("read 0 100", "read 1 512", "write 0", "read -x 0 512", "sleep now", "what",
                    "write -z -P 1 0 512", "write 1M 512", "map 1M 1", "map 5", "bench -d 0",
                    "bench -d 100000"):
        image.ours(command, status=1)
        image.ours(command, "write -P 3 0 512", "read -P 3 0 512", status=1)
    image.ours("write 0 512", flags=("-r",), status=1)
    run(BOX.mvblk, "-f", "vmdk", image.path, status=2)
    assert run(BOX.mvblk, image.path, text="length\nquit\nabort\n") == "1048576\n"


def main(names):
    count = {"PASSED": 0, "FAILED": 0, "SKIPPED": 0}
    for name, test in list(globals().items()):
        if not name.startswith("test_") or (names and name[5:] not in names):
            continue
        began = time.monotonic()
        try:
            test()
            result = "PASSED"
        except Skip as reason:
            print("%s: skipped: %s" % (name, reason))
            result = "SKIPPED"
        except (AssertionError, OSError, subprocess.SubprocessError):
            traceback.print_exc()
            result = "FAILED"
        print("%s: %s, %.1f s" % (name, result.lower(), time.monotonic() - began), flush=True)
        count[result] += 1
    for result, number in count.items():
        if number:
            print("[  %-7s ] %d test(s)." % (result, number))
    return 1 if count["FAILED"] else 0


def start():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--mvblk", required=True)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    if not shutil.which("qemu-img") or not shutil.which("qemu-io"):
        print("skipped: no qemu-img and qemu-io (apt install qemu-utils)")
        return 77
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="minivmm-box-", dir=shm) as tmp:
        BOX.mvblk, BOX.tmp = os.path.abspath(args.mvblk), pathlib.Path(tmp)
        return main(args.names)


if __name__ == "__main__":
    sys.exit(start())
