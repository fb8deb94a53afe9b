"""One lab for all tests of a session.

By default a fresh lab of two nodes is brought up and taken down again. `SIGNALBOX_LAB=running` tests the lab that is
up already, and leaves it up.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients"))

from node import Lab  # noqa: E402


@pytest.fixture(scope="session")
def lab():
    """The lab: nodes, commands, lab.json."""
    running = os.environ.get("SIGNALBOX_LAB") == "running"
    made = Lab()
    if not running:
        made.command("up", "--nodes", "2", capture=False, seconds=400)
    yield made
    if not running:
        made.command("down", capture=False)


@pytest.fixture
def node(lab):
    """The node that most tests look at."""
    return lab.node("node1")
