# SPDX-License-Identifier: MIT
"""Disks hold what is written to them, whatever the order and the depth."""

import subprocess

import pytest

from vm import CMDLINE, SLOW

FIO = ("fio --name=verify --filename=/dev/vdb --rw=randwrite --bsrange=512-128k --bs_unaligned=0 "
       "--blockalign=512 --size=%s --io_size=%s --iodepth=16 --ioengine=libaio --direct=1 "
       "--fsync=64 --verify=crc32c --verify_fatal=1 --do_verify=1 --randrepeat=0 --output-format=terse")


@pytest.mark.smp
@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_fio_verify(boot, images, form):
    disk = "%s/second.%s" % (images, form)
    subprocess.run(["qemu-img", "create", "-q", "-f", form, disk, "200M"], check=True)
    vm = boot("bzImage", cmdline=CMDLINE,
              disks=["%s/debian.qcow2" % images, disk + ",serial=second"], cpus=2)
    assert vm.check("cat /sys/block/vdb/serial").strip() == "second"
    assert vm.check("ls /sys/block/vdb/mq").split() == ["0", "1"]  # a queue for each processor
    vm.check(FIO % ("200M", "100M"), 60 * SLOW)
    vm.poweroff()
    subprocess.run(["qemu-img", "check" if form == "qcow2" else "info", disk], check=True)


@pytest.mark.parametrize("name", ["ro.raw,readonly", "cd.iso"])
def test_read_only_disk(boot, images, tmp_path, name):
    disk = tmp_path / name.partition(",")[0]
    disk.write_bytes(b"written by the host".ljust(1 << 20, b"\0"))
    vm = boot("bzImage", cmdline=CMDLINE,
              disks=["%s/debian.qcow2" % images, "%s/%s" % (tmp_path, name)])
    assert vm.check("cat /sys/block/vdb/ro").strip() == "1"
    assert vm.check("head -c 19 /dev/vdb") == "written by the host"
    status, _ = vm.run("echo no | dd of=/dev/vdb conv=fsync status=none")
    assert status != 0
    vm.poweroff()
    assert disk.read_bytes().startswith(b"written by the host\0")
