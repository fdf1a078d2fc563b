# SPDX-License-Identifier: MIT
"""Processors, serial port, power and reset."""

import ctypes
import json
import os
import pathlib
import re
import signal
import subprocess
import time
import xml.etree.ElementTree

from cases import Failure, Skip, check

RESETS = ["cf9-warm", "cf9-cold", "acpi", "i8042", "triple-fault"]
READ_TIMEOUT_S = 20
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WAIT_ALL = 0x40000000


def hello(host):
    result = host.passes("hello", cmdline="answer=42")
    check(result.out == "hello\nPASS\n", result)


def smp(host, cpus):
    result = host.passes("smp", "--cpus", cpus, cmdline=f"cpus={cpus}")
    check(f"{cpus} processors\n" in result.out, result)


def smp_1(host):
    smp(host, 1)


def smp_4(host):
    smp(host, 4)


def smp_88(host):
    smp(host, 88)


def smp_288(host):
    smp(host, 288)


def reset_no_reboot(host):
    for how, name in enumerate(RESETS):
        result = host.run("reset", "--no-reboot", cmdline=f"how={how}")
        check(result.status == 0 and result.out == "boot\n" and not result.err,
              f"{name}: {result}")


def wait_for(process, pattern, times=1, timeout_s=READ_TIMEOUT_S):
    """Read the console until `pattern` came `times` times; what was read."""
    text = b""
    os.set_blocking(process.stdout.fileno(), True)
    old = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(
        Failure(f"waited for {pattern!r}, got {text!r}")))
    signal.alarm(timeout_s)
    try:
        while len(re.findall(pattern, text)) < times:
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                raise Failure(f"ended; waited for {pattern!r}, got {text!r}, "
                              f"{process.stderr.read()!r}")
            text += piece
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    return text.decode()


def stop(process):
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


def reset_reboots(host):
    """Each way comes back, to a machine as fresh as the first, more than once."""
    for how, name in enumerate(RESETS):
        process = host.start("reset", cmdline=f"how={how}")
        try:
            text = wait_for(process, b"boot\n", 4)
        finally:
            stop(process)
        check("FAIL" not in text, f"{name}: {text}")


def echo(host):
    """Typed characters arrive, also many more than the FIFO holds."""
    process = host.start("echo")
    lines = ["a", "bc" * 100, "".join(map(chr, range(32, 127)))]
    try:
        wait_for(process, b"ready\n")
        for line in lines:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
            wait_for(process, re.escape(line.encode()) + b"\n")
        process.stdin.write(("x" * 200 + "\n").encode() * 20 + b"end\n")
        process.stdin.flush()
        text = wait_for(process, b"PASS\n")
        check(text.count("x") == 4000, text)
        check(process.wait(READ_TIMEOUT_S) == 0, "status")
    finally:
        stop(process)


def no_stdio(host):
    """With stdin, stdout and stderr closed their numbers go to /dev/null, and to no file of ours."""
    def close_all():
        for fd in range(3):
            os.close(fd)

    process = subprocess.Popen(host.command("echo"), preexec_fn=close_all)
    folder = pathlib.Path(f"/proc/{process.pid}/fd")
    try:
        for _ in range(100):
            names = [os.readlink(path) for path in folder.iterdir()]
            if "anon_inode:kvm-vcpu:0" in names:
                break
            time.sleep(0.1)
        check("anon_inode:kvm-vcpu:0" in names, names)
        found = [os.readlink(folder / str(fd)) for fd in range(3)]
        check(found == ["/dev/null"] * 3, found)
    finally:
        process.kill()
        process.wait()


def still_here(process):
    process.stdin.write(b"still here\n")
    process.stdin.flush()
    wait_for(process, b"still here\n")


def power_button(host):
    """SIGTERM presses it, and the guest powers off; a guest that does not is ended by a second."""
    process = host.start("button")
    try:
        wait_for(process, b"ready\n")
        process.send_signal(signal.SIGTERM)
        check(wait_for(process, b"PASS\n") == "PASS\n", "the guest failed")
        check(process.wait(READ_TIMEOUT_S) == 0, "status")
    finally:
        stop(process)
    process = host.start("echo")
    try:
        wait_for(process, b"ready\n")
        process.send_signal(signal.SIGTERM)
        still_here(process)
        process.send_signal(signal.SIGTERM)
        process.wait(READ_TIMEOUT_S)
    finally:
        stop(process)


def signal_before_start(host):
    """One that came before the guest began ends it all: no button was there to be pressed."""
    def signalled():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.kill(os.getpid(), signal.SIGTERM)

    result = host.run("echo", preexec_fn=signalled)
    check(result.status == 0 and not result.out, result)
    check("the guest is not started" in result.err, result)


def power_button_reboot(host):
    """Who pressed the button asked for an end: a guest that reboots then is not started again."""
    process = host.start("button", cmdline="reboot")
    try:
        wait_for(process, b"ready\n")
        process.send_signal(signal.SIGTERM)
        check(process.wait(READ_TIMEOUT_S) == 0, "status")
        check(process.stdout.read() == b"", "started again")
    finally:
        stop(process)


def ptrace(request, pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(request, pid, None, None) < 0:
        raise Skip(f"cannot trace a process: {os.strerror(ctypes.get_errno())}")


def quit_meets_reset(host):
    """A quit and a guest's reset that are found at once: the user's word counts."""
    process = host.start("echo")
    try:
        wait_for(process, b"ready\n")
        process.stdin.write(b"reboot later\n")
        process.stdin.flush()
        wait_for(process, b"later\n")
        # Stop the main thread alone: the reset and the signal come while it looks away.
        ptrace(PTRACE_SEIZE, process.pid)
        ptrace(PTRACE_INTERRUPT, process.pid)
        os.waitpid(process.pid, WAIT_ALL)
        time.sleep(3)
        process.send_signal(signal.SIGHUP)
        ptrace(PTRACE_DETACH, process.pid)
        check(process.wait(READ_TIMEOUT_S) == 0, "status")
        check(process.stdout.read() == b"", "started again")
    finally:
        stop(process)


def ignored_signals(host):
    """As nohup and a background job start it; and a signal that is not ignored still counts."""
    process = subprocess.Popen(["sh", "-c", 'trap "" HUP INT; exec "$@"', "sh",
                                *host.command("echo")],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    try:
        wait_for(process, b"ready\n")
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGINT):
            process.send_signal(number)
            still_here(process)
        process.send_signal(signal.SIGTERM)
        still_here(process)
        process.send_signal(signal.SIGTERM)
        check(process.wait(READ_TIMEOUT_S) == 0, "status")
    finally:
        stop(process)


def echo_reboot(host):
    """What stdin holds when the guest reboots waits for the next boot's driver."""
    process = host.start("echo")
    try:
        wait_for(process, b"ready\n")
        process.stdin.write(b"reboot\n" + b"x" * 200 + b"\nend\n")
        process.stdin.flush()
        wait_for(process, b"ready\nx+\nPASS\n")
        check(process.wait(READ_TIMEOUT_S) == 0, "status")
    finally:
        stop(process)


def mappings(pid):
    """Each mapping of the process as {field: KiB}, from smaps."""
    current = None
    for line in open(f"/proc/{pid}/smaps", encoding="utf-8"):
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            if current:
                yield current
            current = {"name": line.strip()}
        elif line.endswith(" kB\n"):
            key, value = line[:-3].split(":")
            current[key] = int(value)
    if current:
        yield current


def memory_use(host):
    """The process takes at most 3 MiB beyond guest RAM (128 MiB, one vCPU)."""
    if host.sanitized:
        raise Skip("the sanitizers' own memory would be counted")
    process = host.start("echo", "--disk", host.disk("disk.raw", 1 << 20))
    try:
        wait_for(process, b"ready\n")
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        wait_for(process, b"hello\n")
        ram = [128 << 10, 112 << 10, 16 << 10]  # KiB: whole, or apart the first, of small pages
        rest = [m for m in mappings(process.pid) if m["Size"] not in ram]
        total = sum(m["Rss"] for m in rest)
        print(f"{total} KiB beyond guest RAM")
        largest = sorted(rest, key=lambda m: -m["Rss"])[:8]
        check(total <= 3072, f"{total} KiB:\n" + "\n".join(
            f"{m['Rss']:6} KiB {m['name']}" for m in largest))
    finally:
        stop(process)


def svg_events(path):
    """The names of the events in a picture, from the top."""
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
    except xml.etree.ElementTree.ParseError as error:
        raise Failure(f"not XML ({error}): {path.read_text()}") from None
    texts = root.findall("{http://www.w3.org/2000/svg}text")
    return [text.text for text in texts if text.get("class") is None]


def in_order(events, expected):
    """All of `expected` are there, in their order, each once."""
    check([event for event in events if event in expected] == expected, events)


BOOT = ["memory and vCPUs are made", "devices are made", "the kernel is loaded",
        "vCPU 0 enters the guest", "vCPU 0's first exit"]
END = ["vCPUs are stopped", "all is given back"]


def timeline_svg(host):
    """A picture in the end, with the other processor where one is woken."""
    path = host.tmp / "t.svg"
    for guest, cpus, woken in (("hello", 2, []), ("smp", 2, ["vCPU 1 is woken"])):
        host.passes(guest, "--cpus", cpus, f"--timeline={path}", cmdline=f"cpus={cpus}",
                    messages=True)
        events = svg_events(path)
        in_order(events, ["exec", "KVM is open", "files, disks and networks are open", *BOOT,
                          "console: first byte", "console: first line", "the guest powers off",
                          *END])
        in_order(events, ["vCPU 0 enters the guest", *woken, "the guest powers off"])
        check([event for event in events if "is woken" in event] == woken, events)


def run_twice(host, path):
    """A guest that reboots once, with a timeline in the file; what minivmm says."""
    process = host.start("echo", f"--timeline={path}")
    try:
        for line in (b"reboot\n", b"end\n"):
            wait_for(process, b"ready\n")
            process.stdin.write(line)
            process.stdin.flush()
        wait_for(process, b"PASS\n")
        check(process.wait(READ_TIMEOUT_S) == 0, "status")
        return process.stderr.read().decode()
    finally:
        stop(process)


def timeline_reboot(host):
    """Of two boots, a line of JSON each, and a picture of the second; the first is longer."""
    path = host.tmp / "t.json"
    said = run_twice(host, path)
    first, second = [json.loads(line)["events"] for line in path.read_text().splitlines()]
    in_order([event["event"] for event in first], ["exec", *BOOT, "the guest resets", *END])
    in_order([event["event"] for event in second], [*BOOT, "the guest powers off", *END])
    check("exec" not in [event["event"] for event in second], second)
    times = [event["ns"] for event in first + second]
    check(times[0] == 0 and times == sorted(times), times)
    check(said.count("vCPU 0 enters the guest\n") == 2, said)
    path = host.tmp / "t.svg"
    run_twice(host, path)
    events = svg_events(path)
    in_order(events, [*BOOT, "the guest powers off", *END])
    check("exec" not in events, events)


def usr1_without_stats(host):
    """Asked for what is not counted, minivmm says so, and the guest goes on."""
    process = host.start("echo")
    try:
        wait_for(process, b"ready\n")
        process.send_signal(signal.SIGUSR1)
        still_here(process)
        process.stdin.write(b"end\n")
        process.stdin.flush()
        check(process.wait(READ_TIMEOUT_S) == 0, "status")
        said = process.stderr.read().decode()
        check(said == "minivmm: nothing is counted (start with --stats)\n", said)
    finally:
        stop(process)


CASES = {
    "hello": hello,
    "smp-1": smp_1,
    "smp-4": smp_4,
    "smp-88": smp_88,
    "smp-288": smp_288,
    "reset-no-reboot": reset_no_reboot,
    "reset-reboots": reset_reboots,
    "echo": echo,
    "echo-reboot": echo_reboot,
    "ignored-signals": ignored_signals,
    "no-stdio": no_stdio,
    "memory-use": memory_use,
    "power-button": power_button,
    "power-button-reboot": power_button_reboot,
    "quit-meets-reset": quit_meets_reset,
    "signal-before-start": signal_before_start,
    "timeline-reboot": timeline_reboot,
    "timeline-svg": timeline_svg,
    "usr1-without-stats": usr1_without_stats,
}
