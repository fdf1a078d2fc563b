# SPDX-License-Identifier: MIT
"""Debian's stock kernels, and the small one, boot Debian with systemd to a login."""

import re

import pytest


# What 6.12 says on every AMD machine without frequency scaling, QEMU's too.
HARMLESS = "amd_pstate: the _CPC object is not present"


def bad_messages(vm):
    """Errors and warnings of the guest's kernel about what we show it."""
    lines = vm.check("dmesg -l emerg,alert,crit,err,warn").splitlines()
    return [line for line in lines
            if re.search(r"(?i)acpi|\bpci|\bmsi|virtio", line) and HARMLESS not in line]


@pytest.mark.parametrize("cpus", [1, 2, pytest.param(8, marks=pytest.mark.smp)])
@pytest.mark.parametrize("kernel", ["cloud", "generic", "6.12-cloud", "6.12"])
def test_stock_kernel(boot, kernel, cpus):
    vm = boot(kernel, cpus=cpus)
    assert vm.check("nproc").strip() == str(cpus)
    assert bad_messages(vm) == []
    vm.poweroff()


@pytest.mark.smp
@pytest.mark.parametrize("disk", ["debian.qcow2", "debian-gpt.raw"])
def test_plain_call(boot, images, disk):
    """No initrd and no command line: minivmm finds the root itself."""
    vm = boot("bzImage", disks=["%s/%s" % (images, disk)], mem="2G", cpus=8)
    assert vm.check("nproc").strip() == "8"
    assert vm.check("findmnt -no SOURCE /").strip() == (
        "/dev/vda1" if "gpt" in disk else "/dev/vda")
    assert bad_messages(vm) == []
    vm.poweroff()


def test_elf_kernel(boot):
    """A vmlinux, entered by PVH."""
    vm = boot("vmlinux")
    assert bad_messages(vm) == []
    assert vm.check("systemctl --failed --plain --no-legend") == ""
    vm.poweroff()
