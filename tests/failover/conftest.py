"""A pair of nodes, with a third one or alone, for all tests of a file.

`SIGNALBOX_LAB=running` tests the lab that is up already, and leaves it up; it must have as many nodes as the file says in
`NODES`, and be made with the options in `UP`.
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


FIGURES = pytest.StashKey()


def pytest_terminal_summary(terminalreporter, config):
    """What the scenarios have shown, a line each."""
    figures = config.stash.get(FIGURES, [])
    if figures:
        terminalreporter.section("scenarios")
    for line in figures:
        terminalreporter.line(str(line))


@pytest.fixture(scope="module")
def pair(request):
    """The first two nodes, which stand in for each other."""
    running = os.environ.get("SIGNALBOX_LAB") == "running"
    lab = Lab()
    if not running:
        options = getattr(request.module, "UP", [])
        lab.command("up", "--nodes", str(request.module.NODES), *options, capture=False, seconds=600)
    made = Pair(lab)
    yield made
    request.config.stash.setdefault(FIGURES, []).extend(made.figures)
    if not running:
        lab.command("down", capture=False)


@pytest.fixture
def seed(request) -> int:
    """The seed of the scenarios."""
    return request.config.getoption("--seed")


@pytest.fixture(autouse=True)
def in_order(pair):
    """Each test begins with both nodes Normal."""
    pair.restore()
    yield
    pair.lab.command("heal")
