# SPDX-License-Identifier: MIT
"""Making images."""

import os
import subprocess

from cases import Skip, check, need
from harness import Holder, same

USAGE = 2
FAILED = 1
EIO = "5"
ENOSPC = "28"


def commands(host):
    """`minivmm WORD`, and the words after `minivmm disk`."""
    for args in ([], ["disk"]):
        result = host.run(host.minivmm, *args)
        check(result.status == USAGE and not result.out and result.err, result)
    for args, words in ((["disk", "--help"], ["create"]), (["disk", "-h"], ["create"]),
                        (["disk", "create", "--help"], ["--backing", "SIZE"]),
                        (["--help"], ["disk"])):
        result = host.run(host.minivmm, *args)
        check(result.status == 0 and not result.err, result)
        for word in words:
            check(word in result.out, result)
    for args in (["frobnicate"], ["vm.qcow2"], [""], ["../minivmm-disk"], ["x" * 500],
                 ["disk", "frobnicate"], ["disk", "--frobnicate"], ["disk", "create"],
                 ["disk", "create", "--frobnicate", "x", "1G"], ["disk", "create", "-Z"]):
        result = host.run(host.minivmm, *args)
        check(result.status == USAGE and not result.out and result.err.count("\n") == 1, result)
        print(result.err, end="")


def full_output(host):
    """Nothing that could not be printed is passed over."""
    host.ok("create", "a.qcow2", "1M")
    with open("/dev/full", "w", encoding="utf-8") as full:
        for words in (["--help"], ["create", "--help"], ["info", "a.qcow2"],
                      ["info", "a.qcow2", "--json"], ["check", "a.qcow2"],
                      ["check", "a.qcow2", "--json"], ["map", "a.qcow2", "--json"]):
            done = subprocess.run([host.minivmm, "disk", *words], cwd=host.tmp, stdout=full,
                                  stderr=subprocess.PIPE, check=False)
            check(done.returncode == FAILED and b"output" in done.stderr and
                  done.stderr.count(b"\n") == 1, f"{words}: {done}")


def info(host, image):
    return host.qemu("qemu-img", "info", "--output=json", image).json()


def checked(host, image):
    """What qemu-img makes of an image, which must be without fault."""
    report = host.qemu("qemu-img", "check", "--output=json", "-f", "qcow2", image).json()
    for fault in ("corruptions", "leaks", "check-errors"):
        same(report.get(fault, 0), 0, f"{fault} of {image}")
    return info(host, image)


def create(host):
    """Sizes, cluster sizes and versions; options before and after the operands."""
    for clusters, sizes in ((512, ["512", "100M", "128G"]), (4096, ["1G", "7T"]),
                            (65536, ["8G", "3000000001", "64T"]), (2 << 20, ["1K", "64T"])):
        for size in sizes:
            for compat, version in (("v2", "0.10"), ("v3", "1.1")):
                host.ok("create", "a.qcow2", size, "--cluster-size", clusters, "--compat", compat)
                found = checked(host, "a.qcow2")
                unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}.get(size[-1], 1)
                want = (int(size.rstrip("KMGT")) * unit + 511) // 512 * 512
                same(found["virtual-size"], want, "virtual size")
                same(found["cluster-size"], clusters, "cluster size")
                same(found["format-specific"]["data"]["compat"], version, "version")
                # It works: at its start and at its end.
                if want >= 1 << 20:
                    host.qemu_io("a.qcow2", "write -P 7 0 64k", f"write -P 8 {want - 65536} 64k")
                    checked(host, "a.qcow2")
                os.unlink(host.tmp / "a.qcow2")
    host.ok("create", "-f", "raw", "a.qcow2", "1G")
    same(info(host, "a.qcow2")["format"], "raw", "format")
    same(os.stat(host.tmp / "a.qcow2").st_size, 1 << 30, "size")
    same(os.stat(host.tmp / "a.qcow2").st_blocks, 0, "blocks in use")
    host.ok("create", "-c", "4K", "b", "1G", "--format=qcow2")
    same(checked(host, "b")["cluster-size"], 4096, "cluster size")
    host.ok("create", "c.img", "1T")
    same(info(host, "c.img")["format"], "raw", "format")


def create_large(host):
    """The file of a huge disk is small, and as large as what was written."""
    host.ok("create", "a.qcow2", "64T")
    check(os.stat(host.tmp / "a.qcow2").st_blocks * 512 < 1 << 20, "64T takes too much room")
    host.qemu_io("a.qcow2", "write -P 3 63T 1M")
    checked(host, "a.qcow2")


def create_backing(host):
    (host.tmp / "sub").mkdir()
    host.ok("create", "base.qcow2", "64M")
    host.qemu_io("base.qcow2", "write -P 1 0 64M")
    host.ok("create", "base.raw", "32M")
    for name, backing, extra, want in (
            ("v3.qcow2", "base.qcow2", [], 64 << 20),
            ("v2.qcow2", "base.qcow2", ["--compat", "v2"], 64 << 20),
            ("small.qcow2", "base.qcow2", ["1M", "-c", "512"], 1 << 20),
            ("large.qcow2", "base.raw", ["1G"], 1 << 30),
            ("sub/up.qcow2", "../base.qcow2", ["-F", "qcow2"], 64 << 20),
            ("bytes.qcow2", "base.qcow2", ["-F", "raw"], None),
            ("full.qcow2", host.tmp / "base.raw", [], 32 << 20)):
        host.ok("create", name, *extra, "--backing", backing)
        found = checked(host, name)
        same(found["backing-filename"], str(backing), "backing file")
        want_format = "raw" if ".raw" in str(backing) or "raw" in extra else "qcow2"
        same(found["backing-filename-format"], want_format, "its format")
        if want is not None:
            same(found["virtual-size"], want, "virtual size")
        host.qemu_io(name, "write -P 9 512k 64k")
        if want_format == "qcow2":
            host.qemu_io(name, "read -P 1 0 512k", "read -P 9 512k 64k", "read -P 1 576k 448k")
        checked(host, name)


def create_refuses(host):
    host.ok("create", "there.qcow2", "1G")
    host.ok("create", "raw.qcow2", "1M", "--format", "raw")
    host.ok("create", "base.raw", "1M")
    host.ok("create", "name.raw", "1M", "--format", "qcow2")
    (host.tmp / "file").mkdir()
    for args, words in (
            (["a.qcow2"], ["size"]),
            (["a.qcow2", "0"], ["size"]),
            (["a.qcow2", "lots"], ["lots"]),
            (["a.qcow2", "-1"], ["-1"]),
            (["a.qcow2", "99999999999T"], ["too large"]),
            (["a.qcow2", "1G", "2G"], ["2G"]),
            (["", "1G"], ["name"]),
            (["a.qcow2", "1G", "-c", "3K"], ["3K", "power of two"]),
            (["a.qcow2", "1G", "-c", "256"], ["256"]),
            (["a.qcow2", "1G", "-c", "4M"], ["4M"]),
            (["a.qcow2", "1G", "-c"], ["missing"]),
            (["a.qcow2", "1G", "--compat=v4"], ["v4"]),
            (["a.qcow2", "1G", "--format=vmdk"], ["vmdk"]),
            (["a.qcow2", "1G", "--force=yes"], ["--force"]),
            (["a.qcow2", "1G", "--format=vmdk"], ["vmdk"]),
            (["a.qcow2", "1G", "-F", "raw"], ["--backing"]),
            (["a.raw", "1G", "-c", "4K"], ["--format qcow2"]),
            (["a.raw", "1G", "-b", "base.raw"], ["--format qcow2"])):
        host.refused(USAGE, words, "create", *args)
    for args, words in (
            (["a.qcow2", "65T"], ["64T"]),
            (["a.qcow2", "1T", "-c", "512"], ["--cluster-size"]),
            (["there.qcow2", "1G"], ["there.qcow2", "exists", "--force"]),
            (["file", "1G"], ["file", "exists"]),
            (["file", "1G", "--force"], ["file"]),
            (["/dev/null", "1G", "--force"], ["/dev/null", "regular"]),
            (["nowhere/a.qcow2", "1G"], ["nowhere", "No such"]),
            (["a.qcow2", "-b", "missing"], ["missing"]),
            (["a.qcow2", "-b", "file"], ["file", "directory"]),
            (["a.qcow2", "-b", "/dev/null", "-F", "raw"], ["/dev/null"]),
            (["a.qcow2", "-b", "nbd://host/disk"], ["a.qcow2", "nbd:", "plain"]),
            (["a.qcow2", "-b", "raw.qcow2"], ["raw.qcow2", "qcow2"]),
            (["a.qcow2", "-b", "name.raw"], ["name.raw", "qcow2"]),
            (["a.qcow2", "-b", "base.raw", "-F", "qcow2"], ["base.raw", "qcow2"]),
            (["a.qcow2", "-c", "512", "-b", "./" * 250 + "base.raw"], ["too long"]),
            (["a.qcow2", "-b", "./" * 600 + "base.raw"], ["too long"])):
        host.refused(FAILED, words, "create", *args)


def create_force(host):
    """Replacing: the old file stays where this fails; one in use is not replaced."""
    host.ok("create", "base.qcow2", "64M")
    host.ok("create", "mid.qcow2", "-b", "base.qcow2")
    host.ok("create", "top.qcow2", "-b", "mid.qcow2")
    # A chain that would lead to itself.
    for name in ("base.qcow2", "mid.qcow2", "top.qcow2"):
        host.refused(FAILED, ["below itself"], "create", name, "-b", "top.qcow2", "--force")
    host.ok("create", "top.qcow2", "1G", "--force")
    same(checked(host, "top.qcow2")["virtual-size"], 1 << 30, "virtual size")
    os.chmod(host.tmp / "top.qcow2", 0o640)
    if os.geteuid() == 0:
        os.chown(host.tmp / "top.qcow2", 12345, 54321)
    os.symlink("top.qcow2", host.tmp / "link.qcow2")
    host.ok("create", "link.qcow2", "2G", "--force")
    same(checked(host, "top.qcow2")["virtual-size"], 2 << 30, "virtual size")
    found = os.stat(host.tmp / "top.qcow2")
    same(found.st_mode & 0o7777, 0o640, "mode")
    if os.geteuid() == 0:
        same((found.st_uid, found.st_gid), (12345, 54321), "owner")
    check((host.tmp / "link.qcow2").is_symlink(), "the link is gone")
    host.ok("create", "new.qcow2", "1G", "--force")
    need("qemu-io")
    with Holder(host, "top.qcow2"):
        host.refused(FAILED, ["in use"], "create", "top.qcow2", "1G", "--force")
        host.refused(FAILED, ["in use"], "create", "o.qcow2", "-b", "top.qcow2")
    # As deep as can be opened, and one more.
    host.ok("create", "deep0.qcow2", "1M")
    for i in range(1, 9):
        host.ok("create", f"deep{i}.qcow2", "-b", f"deep{i - 1}.qcow2")
    host.refused(FAILED, ["more than 8"], "create", "deep9.qcow2", "-b", "deep8.qcow2")


def create_failing(host):
    """Nothing is left behind, and what was there stays."""
    host.ok("create", "old.qcow2", "1G")
    for fmt, calls in (("qcow2", ("fsync", "ftruncate", "pwrite")),
                       ("raw", ("fsync", "ftruncate"))):
        for call in calls:
            for error, text in ((EIO, "Input/output error"), (ENOSPC, "No space left")):
                prefix = [host.failing, call, error]
                host.refused(FAILED, ["new", text], "create", "new", "1G", "-f", fmt,
                             prefix=prefix)
                host.refused(FAILED, ["old.qcow2", text], "create", "old.qcow2", "1G", "-f", fmt,
                             "--force", prefix=prefix)
    if os.geteuid() != 0:
        raise Skip("needs root, for a full file system")
    need("unshare")
    script = 'mkdir full; mount -t tmpfs -o size=8k none full; "$@"; r=$?; ls full; exit $r'
    host.refused(FAILED, ["No space left"], "create", "full/new.qcow2", "1G", "-c", "2M",
                 prefix=["unshare", "--mount", "sh", "-c", script, "sh"])


CASES = {
    "commands": commands,
    "create": create,
    "full-output": full_output,
    "create-backing": create_backing,
    "create-failing": create_failing,
    "create-force": create_force,
    "create-large": create_large,
    "create-refuses": create_refuses,
}
