# SPDX-License-Identifier: MIT
"""Checking images: sound ones of every kind, and damaged ones."""

import os
import random
import shutil

import images
from cases import check
from harness import Holder, same
from images import COPIED, Image

COUNTS = ("check-errors", "corruptions", "leaks", "image-end-offset", "total-clusters",
          "allocated-clusters", "fragmented-clusters", "compressed-clusters")
CLEAN, FAILED, CORRUPT, LEAKS, NOT_SUPPORTED = 0, 1, 2, 3, 63


def ours(host, name, *options, prefix=()):
    return host.disk("check", "--json", name, *options, prefix=prefix)


def theirs(host, kind, name):
    return host.qemu("qemu-img", "check", "--output=json", *images.image_options(kind, name),
                     statuses=(CLEAN, FAILED, CORRUPT, LEAKS))


def agree(host, kind, name, what, counts=COUNTS):
    """Same exit status, same counts. Ours, as JSON."""
    mine, other = ours(host, name), theirs(host, kind, name)
    same(mine.status, other.status, f"{what}: status; {mine} {other}")
    found = mine.json()
    for count in counts:
        same(found[count], other.json().get(count, 0), f"{what}: {count}; {mine}{other}")
    return found


def check_sound(host):
    for kind, make in images.KINDS.items():
        make(host, kind)
        agree(host, kind, kind, kind)
        text = host.ok("check", kind)
        check("No errors" in text.out, text)


def leak(image):
    """A cluster that is counted, and that nobody refers to."""
    os.truncate(image.path, (image.clusters() + 1) * image.cluster)
    image.set_refcount(image.clusters() - 1, 1)


def count_too_high(image):
    image.set_refcount(image.clusters() - 1, min(2, (1 << (1 << image.refcount_order)) - 1))


def guest_cluster(image):
    """The first one that has data."""
    for guest in range(image.size >> image.bits):
        if image.l2(guest * 8 // image.cluster) and image.get(image.l2_at(guest)):
            return guest
    raise AssertionError("no data")


def entry(change):
    """A damage to the first used L2 entry."""
    def damage(image):
        at = image.l2_at(guest_cluster(image))
        image.put(at, change(image, image.get(at)))
    return damage


def double_entry(image):
    first = guest_cluster(image)
    image.put(image.l2_at(first + 1), image.get(image.l2_at(first)))


def zero_refcount(image):
    image.set_refcount((image.get(image.l2_at(guest_cluster(image))) & images.OFFSET)
                       >> image.bits, 0)


def zero_refblock(image):
    image.write(image.refblock(), bytes(image.cluster))


def truncate(clusters):
    def damage(image):
        os.truncate(image.path, (image.clusters() - clusters) * image.cluster)
    return damage


def l1_entry(change):
    return lambda image: image.put(image.l1, change(image, image.get(image.l1)))


def reftable_entry(change):
    return lambda image: image.put(image.reftable, change(image, image.get(image.reftable)))


# Damage, what it comes to, and whether all counts agree with QEMU's (which reads tables out of
# place, and the same table many times; we do not).
DAMAGE = {
    "leak": (leak, LEAKS, True),
    "count too high": (count_too_high, None, True),
    "refcount zeroed": (zero_refcount, CORRUPT, True),
    "refcount block zeroed": (zero_refblock, CORRUPT, True),
    "entry doubled": (double_entry, CORRUPT, True),
    "entry outside": (entry(lambda image, old: old + (1 << 40)), CORRUPT, True),
    "entry not aligned": (entry(lambda image, old: old + 512), CORRUPT, True),
    "entry reserved bits": (entry(lambda image, old: old | 1 << 57), CORRUPT, True),
    "entry to the header": (entry(lambda image, old: COPIED), None, True),
    "entry to L1": (entry(lambda image, old: image.l1 | COPIED), CORRUPT, True),
    "entry to the refcounts": (entry(lambda image, old: image.refblock() | COPIED), CORRUPT, True),
    "COPIED missing": (entry(lambda image, old: old & ~COPIED), CORRUPT, True),
    "compressed and COPIED": (entry(lambda image, old: 0xC000000000000000 | image.cluster),
                              CORRUPT, True),
    "cut by one": (truncate(1), CORRUPT, False),
    "cut by two": (truncate(2), CORRUPT, False),
    "cut by half": (lambda image: truncate(image.clusters() // 2)(image), CORRUPT, False),
    "L1 COPIED missing": (l1_entry(lambda image, old: old & ~COPIED), CORRUPT, True),
    "L1 reserved bits": (l1_entry(lambda image, old: old | 1), CORRUPT, True),
    "L1 not aligned": (l1_entry(lambda image, old: old + 512), CORRUPT, False),
    "L1 outside": (l1_entry(lambda image, old: 1 << 45), CORRUPT, False),
    "L1 to the header": (l1_entry(lambda image, old: COPIED), CORRUPT, False),
    "refcount block not aligned": (reftable_entry(lambda image, old: old + 512), FAILED, False),
    "refcount block outside": (reftable_entry(lambda image, old: old + (1 << 41)), CORRUPT, False),
    "refcount block is L1": (reftable_entry(lambda image, old: image.l1), CORRUPT, False),
    "refcount block missing": (reftable_entry(lambda image, old: 0), CORRUPT, True),
}

DAMAGED_KINDS = ("v2", "v3", "clusters-4k", "snapshots", "refcounts-1", "refcounts-2",
                 "refcounts-8", "refcounts-32", "refcounts-64")


def check_damaged(host):
    """Each kind of damage to several kinds of images."""
    for kind in DAMAGED_KINDS:
        images.KINDS[kind](host, "whole")
        for name, (damage, want, counts) in DAMAGE.items():
            shutil.copy(host.tmp / "whole", host.tmp / "bad")
            damage(Image(host.tmp / "bad"))
            what = f"{kind}, {name}"
            found = agree(host, kind, "bad", what, COUNTS if counts else ())
            if kind == "v3" and want is not None:
                same(ours(host, "bad").status, want, what)
            print(f"{what}: {found['findings'][:1]}")


def mutate(image, rng):
    """Change an entry of some table to something that could almost be right."""
    tables = [(image.l1, image.l1_entries), (image.reftable, 4),
              (image.refblock(), image.cluster // 8)]
    tables += [(image.l2(i), image.cluster // 8) for i in range(min(image.l1_entries, 4))]
    size = image.clusters() * image.cluster
    at, entries = rng.choice([(at, n) for at, n in tables if 0 < at < size])
    at += 8 * min(rng.randrange(entries), rng.randrange(64))
    old = image.get(at)
    new = rng.choice([
        0, old ^ 1 << rng.randrange(64), old + image.cluster, old - image.cluster,
        rng.randrange(image.clusters() + 2) * image.cluster | COPIED,
        rng.randrange(image.clusters() + 2) * image.cluster,
        images.COMPRESSED | rng.randrange(image.clusters() * image.cluster), rng.getrandbits(64)])
    image.put(at, new % (1 << 64))
    return f"0x{at:x}: 0x{old:x} -> 0x{new % (1 << 64):x}"


def check_random(host):
    """Random damage: the verdict is QEMU's."""
    seed = int(os.environ.get("TEST_SEED", "1"))
    rng = random.Random(seed)
    print(f"TEST_SEED={seed}")
    for kind in ("v2", "v3", "snapshots-4k", "deflate-4k", "refcounts-1", "extended-l2"):
        images.KINDS[kind](host, "whole")
        for _ in range(int(os.environ.get("TEST_RUNS", "25"))):
            shutil.copy(host.tmp / "whole", host.tmp / "bad")
            what = [kind] + [mutate(Image(host.tmp / "bad"), rng)
                             for _ in range(rng.randrange(1, 3))]
            mine, other = ours(host, "bad"), theirs(host, kind, "bad")
            bad = (FAILED, CORRUPT)  # which of the two is a matter of what is read where
            check(mine.status == other.status or (mine.status in bad and other.status in bad),
                  f"{', '.join(what)}: {mine} {other}")


def several_leaks(image):
    for _ in range(3):
        leak(image)
    image.set_refcount(image.clusters() - 3, (1 << (1 << image.refcount_order)) - 1)


def repaired(host, kind, damage, how, fixed, what):
    """Ours repairs it, and nothing is wrong afterwards for QEMU."""
    shutil.copy(host.tmp / "whole", host.tmp / "bad")
    damage(Image(host.tmp / "bad"))
    found = ours(host, "bad", "--repair", how)
    check(found.status == CLEAN, f"{what}: {found}")
    for count, want in {"leaks": 0, "corruptions": 0, **fixed}.items():
        same(found.json()[count], want, f"{what}: {count}; {found}")
    after = agree(host, kind, "bad", what)
    same(after["leaks"] + after["corruptions"], 0, what)
    host.qemu("qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", "whole", "bad")


def check_repair(host):
    for kind in ("v2", "v3", "clusters-512", "snapshots", "deflate-4k", "refcounts-1",
                 "refcounts-4", "refcounts-64"):
        images.KINDS[kind](host, "whole")
        repaired(host, kind, several_leaks, "leaks", {"leaks-fixed": 3}, f"{kind}, leaks")
        repaired(host, kind, zero_refblock_but_one, "all", {}, f"{kind}, refcounts zeroed")
        if kind in ("v2", "v3"):
            repaired(host, kind, DAMAGE["COPIED missing"][0], "all", {}, f"{kind}, COPIED")
            # With its leak goes the flag's reason to be missing.
            repaired(host, kind, count_and_flag, "leaks", {"leaks-fixed": 1},
                     f"{kind}, count and flag")


def zero_refblock_but_one(image):
    """Not all: that block counts itself, too."""
    here = image.refblock() // image.cluster
    for cluster in range(min(image.clusters(), 40)):
        if cluster != here:
            image.set_refcount(cluster, 0)


def count_and_flag(image):
    at = image.l2_at(guest_cluster(image))
    old = image.get(at)
    image.put(at, old & ~COPIED)
    image.set_refcount((old & images.OFFSET) >> image.bits, 2)


def check_repair_not(host):
    """Where references are in doubt nothing is touched; leaks alone are not all that is wrong."""
    images.KINDS["v3"](host, "whole")
    for name, how in (("entry doubled", "leaks"), ("entry outside", "all"),
                      ("entry not aligned", "all"), ("refcount block outside", "all"),
                      ("refcount block missing", "all"), ("refcount zeroed", "leaks")):
        shutil.copy(host.tmp / "whole", host.tmp / "bad")
        DAMAGE[name][0](Image(host.tmp / "bad"))
        if "refcount block" not in name:
            leak(Image(host.tmp / "bad"))
        before = (host.tmp / "bad").read_bytes()
        found = host.disk("check", "bad", "--repair", how)
        same(found.status, CORRUPT, found)
        same((host.tmp / "bad").read_bytes(), before, f"{name}: the file")
    shutil.copy(host.tmp / "whole", host.tmp / "bad")
    leak(Image(host.tmp / "bad"))
    with Holder(host, "bad"):
        host.refused(FAILED, ["in use"], "check", "bad")
        host.refused(FAILED, ["in use"], "check", "bad", "--repair", "leaks")
    for call in ("pwrite", "fdatasync"):
        before = (host.tmp / "bad").read_bytes()
        result = ours(host, "bad", "--repair", "leaks", prefix=[host.failing, call, "5"])
        check(result.status == FAILED and "Input/output error" in result.err, result)
        if call == "pwrite":
            same((host.tmp / "bad").read_bytes(), before, "the file")


def check_dirty(host):
    """Marks of the image's own go away where all is well, and only there."""
    # What an unknown feature has in the file is a leak; the feature must not find it later.
    images.KINDS["bitmaps"](host, "image")
    image = Image(host.tmp / "image")
    image.put(88, 1 | 1 << 9)
    leak(image)
    same(ours(host, "image").status, LEAKS, "a cluster of an unknown feature's")
    same(image.get(88), 1 | 1 << 9, "the features")
    same(ours(host, "image", "--repair", "leaks").status, CLEAN, "repaired")
    same(image.get(88), 1, "the features")
    check("old" in host.qemu("qemu-img", "info", "image").out, "the bitmaps are gone")
    for bits, how in ((1, "leaks"), (2, "all"), (3, "leaks")):
        images.KINDS["v3"](host, "image")
        Image(host.tmp / "image").put(72, bits)
        found = ours(host, "image", "--repair", how)
        same(found.status, CLEAN, found)
        same(Image(host.tmp / "image").get(72), 0, "the feature bits")
    # As lazy refcounts leave it: references without counts.
    images.KINDS["lazy"](host, "image")
    host.run("qemu-io", "-f", "qcow2", "-c", "write 0 1M", "-c", "abort", "image")
    image = Image(host.tmp / "image")
    same(image.get(72), 1, "the dirty bit")
    same(ours(host, "image").status, CORRUPT, "a dirty image")
    same(ours(host, "image", "--repair", "all").status, CLEAN, "a dirty image, repaired")
    same(image.get(72), 0, "the dirty bit")
    same(theirs(host, "v3", "image").status, CLEAN, "a dirty image, repaired")


def check_refuses(host):
    host.ok("create", "raw", "1M")
    host.ok("create", "a.qcow2", "1M")
    (host.tmp / "folder").mkdir()
    (host.tmp / "zero").touch()
    shutil.copy(host.tmp / "a.qcow2", host.tmp / "bad")
    Image(host.tmp / "bad").put(40, 1 << 50)
    shutil.copy(host.tmp / "a.qcow2", host.tmp / "new")
    Image(host.tmp / "new").put(72, 1 << 40)
    for status, words, args in (
            (NOT_SUPPORTED, ["raw", "qcow2"], ["raw"]),
            (NOT_SUPPORTED, ["raw", "qcow2"], ["zero"]),
            (FAILED, ["folder"], ["folder"]),
            (FAILED, ["missing"], ["missing"]),
            (FAILED, ["/dev/null"], ["/dev/null"]),
            (FAILED, ["bad", "L1"], ["bad"]),
            (FAILED, ["new", "40"], ["new"]),
            (FAILED, ["name"], []),
            (FAILED, ["a.qcow2"], ["raw", "a.qcow2"]),
            (FAILED, ["--repair", "some"], ["--repair", "some", "a.qcow2"])):
        host.refused(status, words, "check", *args)


CASES = {
    "check-dirty": check_dirty,
    "check-refuses": check_refuses,
    "check-repair": check_repair,
    "check-repair-not": check_repair_not,
    "check-random": check_random,
    "check-sound": check_sound,
    "check-damaged": check_damaged,
}
