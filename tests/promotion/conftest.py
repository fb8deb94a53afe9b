"""One cluster of three nodes, whose publisher is lost: the tests of a file follow each other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "lab"), str(TESTS / "clients")]

from node import Lab  # noqa: E402


@pytest.fixture(scope="module")
def lab():
    """node1 is the publisher, node2 and node3 joined it."""
    made = Lab()
    made.command("up", "--nodes", "3", capture=False, seconds=600)
    yield made
    made.command("down", capture=False)
