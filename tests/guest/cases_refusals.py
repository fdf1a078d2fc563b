# SPDX-License-Identifier: MIT
"""
What bad input gets: one line on stderr that names the thing, the reason and the remedy, the
right exit status, and nothing left behind.
"""

import hashlib
import os
import re
import struct
import subprocess

from cases_machine import stop, wait_for
from cases import Skip, check, check_one_line, need

MIB = 1 << 20
USAGE = 2
FAILED = 1


def need_root():
    if os.geteuid() != 0:
        raise Skip("needs root, for a namespace of its own")
    need("unshare")


def refused(host, status, fragments, *options, kernel=None, prefix=()):
    """minivmm must refuse: one line that has all `fragments`."""
    kernel = host.guest("hello") if kernel is None else kernel
    command = [*prefix, host.minivmm, "--kernel", kernel, *options]
    if "--mem" not in options:
        command += ["--mem", "128M"]
    result = host.run_command(command, timeout_s=20)
    check_one_line(result, status, fragments)
    check(not result.out, result)


def fingerprint(folder):
    """Names and contents of all that is in `folder`."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
            for path in sorted(folder.iterdir())}


def nothing_changes(host, function):
    before = fingerprint(host.tmp)
    function()
    check(fingerprint(host.tmp) == before, "files were changed or left behind")


def usage(host):
    hello = host.guest("hello")
    for options, fragments in (
            (["--mem", "0"], ["--mem", "0"]),
            (["--mem", "1M"], ["--mem", "1M"]),
            (["--mem", "lots"], ["--mem", "lots"]),
            (["--mem", "-1"], ["--mem", "-1"]),
            (["--mem", "12X"], ["--mem", "12X"]),
            (["--mem", ""], ["--mem"]),
            (["--mem", "99999999999999999999G"], ["--mem"]),
            (["--cpus", "0"], ["--cpus", "0"]),
            (["--cpus", "-1"], ["--cpus", "-1"]),
            (["--cpus", "many"], ["--cpus", "many"]),
            (["--cpus", "1.5"], ["--cpus", "1.5"]),
            (["--disk", ""], ["--disk"]),
            (["--disk", "x,colour=red"], ["--disk", "colour"]),
            (["--disk", "x,format=vmdk"], ["--disk", "vmdk"]),
            (["--disk", "x,format"], ["--disk", "format"]),
            (["--disk", "x,readonly=maybe"], ["--disk", "maybe"]),
            (["--disk", "x,serial=" + "s" * 21], ["--disk", "20"]),
            (["--disk", "x,queues=0"], ["--disk", "queues=0", "64"]),
            (["--disk", "x,iops=0"], ["--disk", "iops=0"]),
            (["--disk", "x,bps=fast"], ["--disk", "bps=fast"]),
            (["--net", "colour=red"], ["--net", "colour"]),
            (["--net", "mac=12:34"], ["mac", "12:34"]),
            (["--net", "mac=01:00:00:00:00:00"], ["mac", "01:00:00:00:00:00"]),
            (["--net", "tap="], ["--net", "tap"]),
            (["--net", "fd=x"], ["--net", "fd"]),
            (["--frobnicate"], ["--frobnicate"]),
            (["--mem", "128M", "--cpus"], ["--cpus", "missing"]),
            (["stray"], ["stray"])):
        refused(host, USAGE, fragments, *options, kernel=hello)
    result = host.run_command([host.minivmm])
    check(result.status == USAGE and "--kernel" in result.err, result)


def limits(host):
    """Too much for this host's KVM or processor."""
    refused(host, FAILED, ["--cpus"], "--cpus", "60000")
    refused(host, FAILED, ["--mem"], "--mem", "4000T")


def kernels(host):
    tmp = host.tmp
    text = tmp / "text"
    text.write_text("not a kernel\n" * 100)
    empty = tmp / "empty"
    empty.touch()
    hello = host.guest("hello").read_bytes()
    truncated = tmp / "truncated"
    truncated.write_bytes(hello[:len(hello) // 2])
    header = tmp / "header-only"
    header.write_bytes(hello[:40])
    # a Linux setup header, and nothing behind it
    bzimage = bytearray(8192)
    bzimage[0x1F1] = 15
    bzimage[0x200:0x202] = b"\xeb\x6a"  # a jump behind the header
    struct.pack_into("<H", bzimage, 0x1FE, 0xAA55)
    struct.pack_into("<4sH", bzimage, 0x202, b"HdrS", 0x20F)
    bzimage[0x211] = 1  # loads high
    struct.pack_into("<H", bzimage, 0x236, 1)  # has the 64-bit entry
    struct.pack_into("<I", bzimage, 0x1F4, 1 << 16)  # 1 MiB of kernel
    struct.pack_into("<Q", bzimage, 0x258, 1 << 24)  # at 16 MiB
    short = tmp / "short-bzimage"
    short.write_bytes(bzimage)

    def cases():
        for path in (text, empty, truncated, header, short, tmp, tmp / "missing", "/dev/null"):
            refused(host, FAILED, [str(path)], kernel=path)
        refused(host, FAILED, ["initrd", "missing"], "--initrd", tmp / "missing")
        refused(host, FAILED, ["initrd", str(tmp)], "--initrd", tmp)

    nothing_changes(host, cases)


def too_large(host):
    big = host.disk("initrd", 200 * MIB)
    refused(host, FAILED, [str(big), "--mem"], "--initrd", big)
    kernel = host.tmp / "big-kernel"
    hello = bytearray(host.guest("hello").read_bytes())
    offset, = struct.unpack_from("<Q", hello, 32)
    # the first segment, which is the one loaded, wants 1 GiB
    struct.pack_into("<Q", hello, offset + 40, 1 << 30)
    kernel.write_bytes(hello)
    refused(host, FAILED, [str(kernel), "--mem"], kernel=kernel)


def qcow2_with(host, name, *patches):
    """An image with (offset, bytes) changed."""
    path = host.qcow2(name, 64 * MIB)
    with open(path, "r+b") as file:
        for offset, data in patches:
            file.seek(offset)
            file.write(data)
    return path


def disks(host):
    tmp = host.tmp
    raw = host.disk("disk.raw", MIB)
    good = host.qcow2("good.qcow2", 64 * MIB)
    renamed = tmp / "renamed.raw"
    renamed.write_bytes(good.read_bytes())
    empty = host.disk("empty.qcow2", 0)
    images = [
        # incompatible feature bit 40; version; cluster size; tables outside the file
        (qcow2_with(host, "feature", (72, struct.pack(">Q", 1 << 40))), "40"),
        (qcow2_with(host, "version", (4, struct.pack(">I", 9))), "version"),
        (qcow2_with(host, "cluster", (20, struct.pack(">I", 60))), ""),
        (qcow2_with(host, "crypt", (32, struct.pack(">I", 1))), "encrypt"),
        (qcow2_with(host, "l1-outside", (40, struct.pack(">Q", 1 << 50))), ""),
        (qcow2_with(host, "l1-odd", (40, struct.pack(">Q", 12345))), ""),
        (qcow2_with(host, "l1-size", (36, struct.pack(">I", 0xFFFFFFFF))), ""),
        (qcow2_with(host, "refcounts-outside", (48, struct.pack(">Q", 1 << 50))), ""),
        (qcow2_with(host, "size", (24, struct.pack(">Q", (1 << 64) - 1))), ""),
    ]

    def cases():
        refused(host, FAILED, ["missing"], "--disk", tmp / "missing")
        refused(host, FAILED, [str(tmp), "directory"], "--disk", tmp)
        refused(host, FAILED, ["/dev/null"], "--disk", "/dev/null")
        refused(host, FAILED, [str(raw), "qcow2"], "--disk", f"{raw},format=qcow2")
        refused(host, FAILED, [str(renamed), "qcow2"], "--disk", renamed)
        refused(host, FAILED, [str(empty)], "--disk", empty)
        refused(host, FAILED, [str(raw)], "--disk", raw, "--disk", raw)
        for path, word in images:
            refused(host, FAILED, [str(path), word], "--disk", f"{path},format=qcow2")

    nothing_changes(host, cases)


def end(echo):
    """As a guest does: a process killed holds its locks a little longer than it lives."""
    echo.stdin.write(b"end\n")
    echo.stdin.flush()
    check(echo.wait(20) == 0, "the echo guest failed")


def disk_in_use(host):
    for path, options in ((host.disk("disk.raw", MIB), ""),
                          (host.qcow2("disk.qcow2", 64 * MIB), ",format=qcow2")):
        owner = host.start("echo", "--disk", f"{path}{options}")
        try:
            wait_for(owner, b"ready\n")
            refused(host, FAILED, [str(path), "in use"], "--disk", f"{path}{options}")
            refused(host, FAILED, [str(path), "in use"], "--disk", f"{path}{options},readonly")
            end(owner)
        finally:
            stop(owner)
        reader = host.start("echo", "--disk", f"{path}{options},readonly")
        try:
            wait_for(reader, b"ready\n")
            refused(host, FAILED, [str(path), "in use"], "--disk", f"{path}{options}")
            host.passes("hello", "--disk", f"{path}{options},readonly")
            end(reader)
        finally:
            stop(reader)
        host.passes("hello", "--disk", f"{path}{options}")


def in_mounts(script):
    """A prefix that runs the rest after `script`, in a mount namespace of its own."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec",
            f'{script}\nexec "$@"', "sh"]


def rights(host):
    """No /dev/kvm, or none for us; a disk that cannot be written."""
    need_root()
    need("setpriv")
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    node = "mount -t tmpfs none /dev; mknod -m 600 /dev/kvm c 10 232; mknod -m 666 /dev/null c 1 3"
    refused(host, FAILED, ["/dev/kvm"], prefix=in_mounts("mount -t tmpfs none /dev"))
    refused(host, FAILED, ["/dev/kvm", "group kvm"], prefix=[*in_mounts(node), *nobody])
    path = host.disk("disk.raw", MIB)
    folder = host.tmp
    frozen = in_mounts(f"mount --bind {folder} {folder}; mount -o remount,bind,ro {folder}")
    refused(host, FAILED, [str(path), "readonly"], "--disk", path, prefix=frozen)
    result = host.run_command([*frozen, *host.command("hello", "--disk", f"{path},readonly")])
    check(result.status == 0, result)


def networks(host):
    need_root()
    need("ip")
    if not os.path.exists("/dev/net/tun"):
        raise Skip("no /dev/net/tun")
    # sysfs shows the namespace of whoever mounted it
    inside = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-ec",
              'mount -t sysfs none /sys; ip link add br0 type bridge\n'
              'ip tuntap add busy mode tap\n'
              'before=$(ls /sys/class/net)\n"$@" || r=$?\n'
              'test "$before" = "$(ls /sys/class/net)" || echo "interfaces left behind" >&2\n'
              'exit ${r-0}', "sh"]
    for net, fragments in (("bridge=nosuch", ["nosuch", "bridge"]),
                           ("bridge=lo", ["lo"]),
                           ("tap=br0", ["br0"]),
                           ("tap=" + "x" * 40, ["x" * 40]),
                           ("fd=77", ["77"]),
                           ("tap=busy,queues=2", ["busy", "one queue", "multi_queue"])):
        refused(host, FAILED, fragments, "--net", net, prefix=inside)
    refused(host, FAILED, ["busy"], "--net", "tap=busy", prefix=[*inside, *HOLD_TAP])
    need("setpriv")
    weak = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    refused(host, FAILED, ["CAP_NET_ADMIN"], "--net", "bridge=br0", prefix=[*inside, *weak])


# Attach to the TAP "busy", then run the rest.
HOLD_TAP = ["python3", "-c", """
import fcntl, os, struct, subprocess, sys
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"busy", 0x1002))  # TUNSETIFF: TAP, no PI
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""]


def few_files(host):
    """With too few file descriptors it says so, wherever they run out."""
    disk = host.disk("disk.raw", MIB)
    hello = host.command("hello", "--cpus", "2", "--disk", disk)
    # At the end the leak checker would want descriptors too.
    env = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
    for limit in range(3, 100):
        command = ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *hello]
        result = host.run_command(command, env=env)
        if result.status == 0:
            break
        if result.status == 127:
            continue  # the dynamic linker's
        what = f"{limit} descriptors: {result}"
        check(result.status == FAILED and not result.out, what)
        check(re.fullmatch(r"minivmm: [^\n]+Too many open files[^\n]+ulimit -n[^\n]*\n",
                           result.err), what)
        print(f"{limit}: {result.err}", end="")
    check(result.status == 0 and limit > 20, result)


def has_pvm():
    flags = subprocess.run(["grep", "-cwE", "vmx|svm", "/proc/cpuinfo"], capture_output=True,
                           check=False)
    return flags.stdout.strip() == b"0" and os.path.exists("/sys/module/kvm_pvm")


def stock_linux(host):
    """Where KVM is the PVM back end Linux is refused at once; --force tries; others run."""
    if has_pvm():
        kernel = host.guest("linux")
        refused(host, FAILED, [str(kernel), "PVM", "--force"], kernel=kernel)
        host.passes("linux", "--force", messages=True)
    else:
        host.passes("linux")
    host.passes("hello")


CASES = {
    "refuses-usage": usage,
    "refuses-limits": limits,
    "refuses-kernels": kernels,
    "refuses-too-large": too_large,
    "refuses-disks": disks,
    "refuses-few-files": few_files,
    "refuses-disk-in-use": disk_in_use,
    "refuses-without-rights": rights,
    "refuses-networks": networks,
    "refuses-stock-linux": stock_linux,
}
