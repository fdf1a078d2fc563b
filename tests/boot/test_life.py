# SPDX-License-Identifier: MIT
"""Power-off, reboot, panic, the power button, and what is kept on the disk."""

import signal
import subprocess

import pytest

from vm import CMDLINE, LOGIN_S, SLOW


def test_disk_keeps_what_was_written(boot, images):
    """Across a whole shutdown, and qemu-img finds nothing to complain of."""
    disk = "%s/debian.qcow2" % images
    check = ["qemu-img", "check", disk]
    vm = boot("bzImage", cmdline=CMDLINE)
    vm.check("dd if=/dev/urandom of=/root/kept bs=1M count=20 status=none", 30 * SLOW)
    first = vm.check("sha256sum /root/kept")
    vm.send("poweroff\n")
    assert vm.wait(30 * SLOW) == 0
    subprocess.run(check, check=True)
    vm = boot("bzImage", cmdline=CMDLINE)
    assert vm.check("sha256sum /root/kept", 30 * SLOW) == first
    vm.check("rm /root/kept")
    vm.poweroff()
    subprocess.run(check, check=True)


@pytest.mark.smp
def test_reboot_comes_back(boot):
    vm = boot("bzImage", cmdline=CMDLINE, cpus=2, reboots=True)
    before = vm.check("cat /proc/sys/kernel/random/boot_id")
    vm.send("reboot -f\n")
    vm.login()
    assert vm.check("cat /proc/sys/kernel/random/boot_id") != before
    vm.poweroff()


def test_panic_does_not_hang(boot):
    """panic=-1 makes the guest reboot at once, which --no-reboot makes an end."""
    vm = boot("bzImage", cmdline=CMDLINE + " panic=-1")
    vm.send("sync; echo c >/proc/sysrq-trigger\n")
    vm.expect("Kernel panic", 5 * SLOW)
    assert vm.wait() == 0


def test_sigterm_presses_the_power_button(boot):
    vm = boot("cloud")
    vm.signal(signal.SIGTERM)
    vm.expect("(?i)power.*(off|down)", LOGIN_S)
    assert vm.wait(30 * SLOW) == 0
