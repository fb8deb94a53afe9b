"""A pair of nodes, with a third one or alone, for all tests of a file.

`SIGNALBOX_LAB=running` tests the lab that is up already, and leaves it up; it must have as many nodes as the file says in
`NODES`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "lab"), str(TESTS / "clients"), str(TESTS / "failover")]

from node import Lab  # noqa: E402
from pair import Pair  # noqa: E402


@pytest.fixture(scope="module")
def pair(request):
    """The first two nodes, which stand in for each other."""
    running = os.environ.get("SIGNALBOX_LAB") == "running"
    lab = Lab()
    if not running:
        lab.command("up", "--nodes", str(request.module.NODES), capture=False, seconds=600)
    made = Pair(lab)
    yield made
    made.report()
    if not running:
        lab.command("down", capture=False)


@pytest.fixture(autouse=True)
def in_order(pair):
    """Each test begins with both nodes Normal."""
    pair.restore()
    yield
    pair.lab.command("heal")
