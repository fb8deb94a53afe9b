"""Boot time, image size and idle memory, read off the disk image in a virtual machine.

The machine is set up unattended, powered off and started again: what is measured is an ordinary boot of a node that is
set up. Without hardware acceleration the seconds tell little by themselves; compare them with another build's.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import time

from . import host
from .cli import REPOSITORY, TARGET
from .host import HostError, say
from .vm import SET_UP
from .vm_machine import Machine, Options

NAME = "bench"
ANSWERS = REPOSITORY / "image/answers.example.toml"
PATIENCE = 300
"""Seconds for each boot."""

UP = "systemctl is-system-running --wait"
SETTLE = 20
"""Seconds between all services up and the reading of memory."""

READINGS = r"""
for unit in /usr/lib/systemd/system/*.service; do
    grep -q '^\[X-Signalbox\]' $unit && systemctl show -p Id,ActiveState,ActiveEnterTimestampMonotonic $(basename $unit) | tr '\n' ' ' && echo
done
systemctl show -p UserspaceTimestampMonotonic
grep -E '^(MemTotal|MemAvailable):' /proc/meminfo
for process in /proc/[0-9]*; do
    case $(readlink $process/exe) in */signalbox*) grep '^Pss:' $process/smaps_rollup ;; esac
done
"""


def measure(options: argparse.Namespace) -> dict:
    """Builds the image, sets a node up with it, and takes the readings in its second boot."""
    profile = ["--release"] if options.profile == "release" else []
    subprocess.run(["cargo", "build", *profile, "--package", "signalbox"], cwd=REPOSITORY, check=True)
    subprocess.run([REPOSITORY / "scripts/build-image", *profile, "--unlocked"], check=True)
    host.need_qemu()
    machine = Machine(NAME)
    machine.destroy()  # what an interrupted run left
    try:
        machine.create(Options(firmware=options.firmware, answers=ANSWERS))
        machine.start()
        machine.wait_for(SET_UP, PATIENCE)
        machine.wait_for(UP, PATIENCE)
        machine.press_power_button()
        say("The node is set up; now the boot that is measured.")
        machine.start()
        # One question that waits: asking again and again would slow the machine down.
        status, out, _ = machine.execute(UP, seconds=PATIENCE)
        if status != 0:
            raise HostError(f"the node came up {out.decode().strip() or 'not at all'}; its console says:\n{machine.tail()}")
        time.sleep(SETTLE)
        _, text, _ = machine.execute(READINGS, seconds=120)
        return {"figures": figures(text.decode(), machine.state()["acceleration"], options.firmware, options.profile)}
    finally:
        machine.destroy()


def figures(text: str, acceleration: str, firmware: str, profile: str) -> list[tuple[str, str]]:
    """Rows for the table."""
    lines = [line for line in text.splitlines() if "ActiveState=active" in line]
    active = [int(moment) for line in lines for moment in re.findall(r"ActiveEnterTimestampMonotonic=(\d+)", line)]
    userspace = re.search(r"UserspaceTimestampMonotonic=(\d+)", text)
    memory = {name: int(kib) for name, kib in re.findall(r"(MemTotal|MemAvailable):\s+(\d+) kB", text)}
    ours = sum(int(kib) for kib in re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE))
    image = TARGET / "image/signalbox.qcow2"
    return [
        (f"seconds from kernel start to all services up ({firmware}, {acceleration}, {profile} build)", f"{max(active) / 1e6:.1f}"),
        ("of which kernel and initial file system", f"{int(userspace[1]) / 1e6:.1f}" if userspace else "?"),
        ("services up", str(len(active))),
        ("compressed image (qcow2), MB", f"{image.stat().st_size / 1e6:.0f}"),
        ("memory in use of the idle node, MiB", f"{(memory['MemTotal'] - memory['MemAvailable']) / 1024:.0f}"),
        ("of which our processes (proportional set size), MiB", f"{ours / 1024:.0f}"),
    ]

