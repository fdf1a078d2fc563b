# SPDX-License-Identifier: MIT
"""virtio-blk, with what is in the file checked from outside."""

import re
import signal
import struct
import subprocess
import time

from cases_machine import stop, wait_for
from cases import check, need

SECTOR = 512
WORDS = SECTOR // 8
SEED_SECTORS = 64
DISK_SECTORS = 4 * 1024 * 1024 // SECTOR
MASK = (1 << 64) - 1


def pattern(sector):
    """What guest_blk.c writes to `sector`."""
    return [(sector * WORDS + i) * 0x9E3779B97F4A7C15 & MASK for i in range(WORDS)]


def sector_bytes(words):
    return struct.pack(f"<{WORDS}Q", *words)


def seed():
    """What the disk begins with."""
    return b"".join(sector_bytes(w ^ MASK for w in pattern(s)) for s in range(SEED_SECTORS))


def expected_content():
    def one(sector):
        if sector // 8 % 3 == 1:
            return sector_bytes(pattern(sector))
        if sector < SEED_SECTORS:
            return sector_bytes(w ^ MASK for w in pattern(sector))
        return bytes(SECTOR)
    return b"".join(map(one, range(DISK_SECTORS)))


def check_content(raw):
    content, expected = raw.read_bytes(), expected_content()
    check(len(content) == len(expected), f"{raw.name} is {len(content)} bytes long")
    for at in range(0, len(expected), SECTOR):
        check(content[at:at + SECTOR] == expected[at:at + SECTOR],
              f"sector {at // SECTOR} is not what the guest wrote")


def blk_raw(host):
    path = host.disk("disk.raw", DISK_SECTORS * SECTOR, seed())
    result = host.passes("blk", "--disk", f"{path},serial=serial-of-20-bytes-x",
                         cmdline="seeded")
    check(f"sectors {DISK_SECTORS}\n" in result.out, result)
    check("id serial-of-20-bytes-x\n" in result.out, result)
    check_content(path)
    for poll in (0, 10000):
        path = host.disk("disk.raw", DISK_SECTORS * SECTOR, seed())
        host.passes("blk", "--disk", f"{path},poll={poll}", cmdline="seeded")
        check_content(path)


def blk_sixteen(host):
    """As many disks as there can be, with many queues, of which the last one is used."""
    disks = [host.disk(f"disk{i}.raw", DISK_SECTORS * SECTOR, seed()) for i in range(16)]
    options = sum((["--disk", f"{path},queues=8,serial=nr{i}"] for i, path in enumerate(disks)), [])
    result = host.passes("blk", "--cpus", 2, *options, cmdline="seeded nth=15")
    check("id nr15\n" in result.out, result)
    check_content(disks[15])
    check(disks[14].read_bytes() == seed().ljust(DISK_SECTORS * SECTOR, b"\0"), "disk 14 changed")


def blk_qcow2(host):
    need("qemu-img")
    raw = host.disk("seed.raw", DISK_SECTORS * SECTOR, seed())
    for options in ("compat=1.1", "compat=0.10", "cluster_size=4k", "lazy_refcounts=on",
                    "cluster_size=2M"):
        path = host.tmp / "disk.qcow2"
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", options, raw,
                        path], check=True)
        host.passes("blk", "--disk", f"{path},format=qcow2", cmdline="seeded")
        check_content(host.qcow2_to_raw(path))
        # what one run wrote the next one reads, and read-only is enough for that
        host.passes("blk", "--disk", f"{path},format=qcow2,readonly", cmdline="written")
        check_content(host.qcow2_to_raw(path))


def blk_libqcow(host):
    """What libqcow reads: version 1, encrypted images, and others where it is asked for."""
    need("qemu-img")
    raw = host.disk("full.raw", DISK_SECTORS * SECTOR, expected_content())
    password = host.tmp / "password"
    password.write_text("s3cret\n")
    secret = ["--object", f"secret,id=s,file={password}"]
    aes = ["-o", "encrypt.format=aes,encrypt.key-secret=s"]
    image = host.tmp / "image"
    for kind, more, options in (
            ("qcow", [], "format=qcow"),
            ("qcow", secret + aes, f"format=qcow,password-file={password}"),
            ("qcow2", secret + aes, f"format=qcow2,password-file={password}"),
            ("qcow2", ["-c"], "format=qcow2,reader=libqcow")):
        password.write_text("s3cret")  # QEMU takes all of it
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", kind, *more, raw, image],
                       check=True)
        password.write_text("s3cret\n")
        result = host.passes("blk", "--disk", f"{image},readonly,{options}", cmdline="written")
        check("read-only\n" in result.out, result)


def blk_iso(host):
    """A name in .iso is a read-only disk, also of a file that cannot be written."""
    path = host.disk("disk.iso", DISK_SECTORS * SECTOR, expected_content())
    path.chmod(0o444)
    result = host.passes("blk", "--disk", path, cmdline="written")
    check("read-only\n" in result.out, result)
    check_content(path)
    path.chmod(0o644)
    result = host.passes("blk", "--disk", f"{path},readonly=off", cmdline="seeded")
    check("read-only\n" not in result.out, result)


def blk_snapshot(host):
    """What the guest writes is gone at the end, or after a power-off the disk's."""
    need("qemu-img")
    raw = host.disk("disk.raw", DISK_SECTORS * SECTOR, seed())
    qcow2 = host.tmp / "disk.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2], check=True)
    for path in (raw, qcow2):
        before = path.read_bytes()
        host.passes("blk", "--disk", f"{path},snapshot", cmdline="seeded")
        check(path.read_bytes() == before, f"{path.name} changed")
        result = host.run("blk", "--no-reboot", "--disk", f"{path},snapshot=commit",
                          cmdline="seeded reset")
        check(result.status == 0 and "FAIL" not in result.out, result)
        check(path.read_bytes() == before, f"{path.name} changed by a reset")
        host.passes("blk", "--disk", f"{path},snapshot=commit", cmdline="seeded")
        check_content(path if path == raw else host.qcow2_to_raw(path))
    check(not list(host.tmp.glob("*.snapshot-*")), "an overlay is left")


def exits(text):
    """What --stats printed: {(kind, address): count}, all vCPUs together."""
    counts = {}
    for kind, addr, count in re.findall(r"^\d+ +([a-z-]+) +(0x[0-9a-f]+|0) +(\d+) +\d+$",
                                        text, re.MULTILINE):
        key = (kind, int(addr, 16))
        counts[key] = counts.get(key, 0) + int(count)
    check(counts and "elsewhere" not in text, text)
    return counts


def blk_no_exits(host):
    """A disk request costs no exit to user space: 100 cost as many as 10,000."""
    path = host.disk("disk.raw", 16 << 20)
    total = {}
    for requests in (100, 10000):
        result = host.passes("blk_many", "--stats", "--disk", path, messages=True,
                             cmdline=f"requests={requests}")
        check(f"{requests} requests\n" in result.out, result)
        # the number itself is printed, a byte an exit
        total[requests] = {key: count for key, count in exits(result.err).items()
                           if key != ("pio-out", 0x3F8)}
    check(total[100] == total[10000], total)
    print(f"{sum(total[10000].values())} exits in all, for 10,000 requests or 100")


def blk_rate(host):
    """The benchmark's guest: none of the kicks that it leaves out was needed."""
    need("qemu-img")
    size = 4 << 20
    raw = host.disk("disk.raw", size, b"\1" * size)
    qcow2 = host.tmp / "disk.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2], check=True)
    jobs = ("random depth=32", "write random depth=32", "write bytes=262144 depth=8",
            "bytes=262144 depth=8", "write random")
    for path in (raw, qcow2):
        result = host.passes("blk_rate", "--disk", f"{path},format={path.suffix[1:]}",
                             stdin="".join(f"{job} cycles=200000000\n" for job in jobs) + "\n")
        answers = re.findall(r"^cycles=\d+ requests=(\d+) kicks=(\d+)$", result.out,
                             re.MULTILINE)
        check(len(answers) == len(jobs), result)
        check(all(0 < int(kicks) <= int(requests) for requests, kicks in answers), result)
    for path in (raw, host.qcow2_to_raw(qcow2)):
        check(path.read_bytes() == b"\1" * size, f"{path.name} changed")


def complaints(result):
    """Warnings about a guest's mistakes are limited in number, whatever the guest does."""
    lines = result.err.splitlines()
    check(len(lines) <= 30, f"{len(lines)} lines on stderr:\n{result.err}")
    check(all(line.startswith("minivmm: ") for line in lines), result)


def blk_hostile(host):
    first = host.disk("first.raw", 1 << 20, b"\xff" * SECTOR)
    second = host.disk("second.raw", 1 << 20)
    for cpus, queue in ((1, 0), (3, 4)):
        complaints(host.passes("blk_hostile", "--cpus", cpus, "--disk", f"{first},queues=5",
                               "--disk", f"{second},readonly", messages=True,
                               cmdline=f"cpus={cpus} queue={queue}"))
    check(first.read_bytes() == (b"\xff" * SECTOR).ljust(1 << 20, b"\0"), "the disk changed")


def virtio_regs(host):
    path = host.disk("disk.raw", 1 << 20, b"\xff" * SECTOR)
    complaints(host.passes("virtio_regs", "--disk", path, messages=True))


def blk_reset(host):
    need("qemu-img")
    for queues in (1, 3):
        host.passes("blk_reset", "--disk", f"{host.disk('disk.raw', 4 << 20)},queues={queues}",
                    cmdline=f"queues={queues}")
        path = host.qcow2("disk.qcow2", 4 << 20)
        host.passes("blk_reset", "--disk", f"{path},format=qcow2,queues={queues}",
                    cmdline=f"queues={queues}")
        host.qcow2_to_raw(path)


def queues_content(size_bytes):
    """What guest_blk_queues.c writes."""
    return struct.pack(f"<{size_bytes // 8}Q", *(i * 0x9E3779B97F4A7C15 & MASK
                                                 for i in range(size_bytes // 8)))


def blk_queues(host):
    """Processors with a queue each, at once; as many queues as there can be; and by default."""
    need("qemu-img")
    size = 2 << 20
    for cpus, queues, options in ((2, 64, ",queues=64"), (2, 2, "")):
        host.passes("blk_queues", "--cpus", cpus,
                    "--disk", f"{host.disk('disk.raw', size)}{options}",
                    cmdline=f"cpus={cpus} queues={queues}")
        check((host.tmp / "disk.raw").read_bytes() == queues_content(size), "the disk differs")
    path = host.qcow2("disk.qcow2", size)
    host.passes("blk_queues", "--cpus", 4, "--disk", f"{path},queues=4", cmdline="cpus=4")
    check(host.qcow2_to_raw(path).read_bytes() == queues_content(size), "the disk differs")


def limited(host, option, requests):
    """How long `requests` of 4 KiB take, and the start, in seconds."""
    disk = host.disk("disk.raw", 16 << 20)
    begin = time.monotonic()
    process = host.start("blk_many", "--disk", f"{disk},{option}", cmdline=f"requests={requests}")
    try:
        wait_for(process, f"{requests} requests\n".encode())
        return time.monotonic() - begin
    finally:
        stop(process)


def blk_limits(host):
    """A second's worth at once, then as much per second; and no end or reset waits for that."""
    for option in ("iops=200", "bps=800K"):
        took = limited(host, option, 600)
        check(1.95 < took < 15, f"{option}: 600 requests took {took} s, not 2")
        print(f"{option}: {took:.2f} s")
    host.passes("blk_reset", "--disk", f"{host.disk('disk.raw', 4 << 20)},queues=3,iops=1000",
                cmdline="queues=3")
    process = host.start("blk_many", "--disk", f"{host.tmp / 'disk.raw'},iops=1")
    try:
        wait_for(process, b"start\n")
        time.sleep(0.5)
        process.send_signal(signal.SIGHUP)
        begin = time.monotonic()
        check(process.wait(20) == 0, "status")
        check(time.monotonic() - begin < 10, "the end waited for what was held back")
    finally:
        stop(process)


CASES = {
    "blk-hostile": blk_hostile,
    "blk-queues": blk_queues,
    "blk-rate": blk_rate,
    "blk-reset": blk_reset,
    "blk-sixteen": blk_sixteen,
    "virtio-regs": virtio_regs,
    "blk-raw": blk_raw,
    "blk-qcow2": blk_qcow2,
    "blk-libqcow": blk_libqcow,
    "blk-iso": blk_iso,
    "blk-snapshot": blk_snapshot,
    "blk-limits": blk_limits,
    "blk-no-exits": blk_no_exits,
}
