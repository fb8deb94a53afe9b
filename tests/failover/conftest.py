"""A pair of nodes, with a third one or alone, for all tests of a file.

`SIGNALBOX_LAB=running` tests the lab that is up already, and leaves it up; it must have as many nodes as the file says in
`NODES`, and be made with the options in `UP`.
"""

from __future__ import annotations

import os
import secrets

import pytest
from node import Lab, Node, Person, eventually
from pair import Pair

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


@pytest.fixture
def at_home(pair):
    """Makes somebody at home on each of the nodes that are given; they are deleted in the end."""
    made: list[Person] = []

    def one(home: Node) -> Person:
        person = Person(home, f"{home.name}-{secrets.token_hex(3)}", secrets.token_urlsafe(9))
        pair.one.cli("users", "add", person.user, "--password", person.password)
        made.append(person)
        pair.one.cli("users", "assign", home.name, person.user)
        eventually("the home is known", lambda: all(home.name in node.cli("users", "show", person.user) for node in (pair.one, pair.two)), 10)
        return person

    yield lambda *homes: [one(home) for home in homes]
    pair.restore()
    for person in made:
        pair.one.cli("users", "delete", person.user)


@pytest.fixture(autouse=True)
def in_order(pair):
    """Each test begins with both nodes Normal."""
    pair.restore()
    yield
    pair.lab.command("heal")
