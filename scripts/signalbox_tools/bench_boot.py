"""Boot time, image size and idle memory, read off the disk image in a virtual machine.

The machine is set up unattended, powered off and started again: what is measured is an ordinary boot of a node that is
set up. Without hardware acceleration the seconds tell little by themselves; compare them with another build's.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import time

from .cli import REPOSITORY, TARGET
from .host import say

NAME = "bench"
ANSWERS = REPOSITORY / "image/answers.example.toml"
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


def _vm(*words: str) -> str:
    return subprocess.run(
        [REPOSITORY / "scripts/vm", "--name", NAME, *words], check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    ).stdout


def measure(options: argparse.Namespace) -> dict:
    """Builds the release image, boots it twice and takes the readings in the second boot."""
    subprocess.run(["cargo", "build", "--release", "--package", "signalbox"], cwd=REPOSITORY, check=True)
    subprocess.run([REPOSITORY / "scripts/build-image", "--release", "--unlocked"], check=True)
    try:
        _vm("up", "--fresh", "--firmware", options.firmware, "--answers", str(ANSWERS))
        _vm("down", "--keep")
        say("Set up; now the boot that is measured.")
        _vm("up")
        time.sleep(SETTLE)
        text = _vm("exec", "--", "sh", "-c", READINGS)
        acceleration = re.search(r"acceleration (\w+)", _vm("status"))
    finally:
        _vm("down")
    return {"figures": figures(text, acceleration[1] if acceleration else "?", options.firmware)}


def figures(text: str, acceleration: str, firmware: str) -> list[tuple[str, str]]:
    """Rows for the table."""
    lines = [line for line in text.splitlines() if "ActiveState=active" in line]
    active = [int(moment) for line in lines for moment in re.findall(r"ActiveEnterTimestampMonotonic=(\d+)", line)]
    userspace = re.search(r"UserspaceTimestampMonotonic=(\d+)", text)
    memory = {name: int(kib) for name, kib in re.findall(r"(MemTotal|MemAvailable):\s+(\d+) kB", text)}
    ours = sum(int(kib) for kib in re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE))
    image = TARGET / "image/signalbox.qcow2"
    return [
        (f"seconds from kernel start to all services up ({firmware}, {acceleration})", f"{max(active) / 1e6:.1f}"),
        ("of which kernel and initial file system", f"{int(userspace[1]) / 1e6:.1f}" if userspace else "?"),
        ("services up", str(len(active))),
        ("compressed image (qcow2), MB", f"{image.stat().st_size / 1e6:.0f}"),
        ("memory in use of the idle node, MiB", f"{(memory['MemTotal'] - memory['MemAvailable']) / 1024:.0f}"),
        ("of which our processes (proportional set size), MiB", f"{ours / 1024:.0f}"),
    ]

