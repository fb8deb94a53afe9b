"""Named scenarios: something breaks while people talk, and every message is accounted for.

`scripts/test --lab -- -k scenario --seed 7` runs them with another seed; each gives one line in the end. Detection and
takeover are read from the event history of the node that took over; a gap is the longest time in which a person heard
nothing of the server, as their client saw it.
"""

from __future__ import annotations

import subprocess

import clock
import pytest
from scenarios import SCENARIOS, run

NODES = 2
DISKS = subprocess.run(["losetup", "--find"], capture_output=True, check=False).returncode == 0
UP = ["--disk", "600M"] if DISKS else []


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(pair, seed, name):
    if name == "full disk" and not DISKS:
        pytest.skip("this machine has no loop devices")
    if "clock" in name and clock.LIBRARY is None:
        pytest.skip("this machine has no libfaketime")
    run(pair, seed, name)
