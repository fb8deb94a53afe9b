"""Readings of a server's processes: CPU time and memory, summed over a tree of processes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Reading:
    """What a server's processes have used."""

    cpu: float
    """Seconds of processor time, user and system, since they started."""
    memory: int
    """Proportional set size in bytes: shared pages count once, divided among those that share them."""

    def __sub__(self, other: "Reading") -> "Reading":
        return Reading(self.cpu - other.cpu, self.memory - other.memory)


def _parents() -> dict[int, int]:
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            found[int(folder.name)] = int(fields[1])
    return found


def descendants(ancestor: int) -> set[int]:
    """Every process below `ancestor`, not itself."""
    parents = _parents()
    below = {ancestor}
    grown = True
    while grown:
        more = {child for child, parent in parents.items() if parent in below} - below
        below |= more
        grown = bool(more)
    return below - {ancestor}


def program(process: int) -> str:
    """Name of the program that a process runs; empty when it is gone."""
    try:
        return os.path.basename(os.readlink(f"/proc/{process}/exe"))
    except OSError:
        return ""


def read(ancestor: int, counts: Callable[[int], bool] = lambda _: True) -> Reading:
    """Sums the processes below `ancestor` for which `counts` holds."""
    cpu, memory = 0, 0
    for process in filter(counts, descendants(ancestor)):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        cpu += int(fields[11]) + int(fields[12])
        size = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        memory += int(size[1]) * 1024 if size else 0
    return Reading(cpu / TICK, memory)
