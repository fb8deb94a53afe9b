"""One lab for all tests of a session.

By default a fresh lab of two nodes, each a cluster of its own, is brought up and taken down again. `SIGNALBOX_LAB=running` tests the lab that is
up already, and leaves it up.
"""

from __future__ import annotations

import os
import secrets

import pytest

from node import Lab, Person


@pytest.fixture(scope="session")
def lab():
    """The lab: nodes, commands, lab.json."""
    running = os.environ.get("SIGNALBOX_LAB") == "running"
    made = Lab()
    if not running:
        made.command("up", "--nodes", "2", "--separate", capture=False, seconds=400)
    yield made
    if not running:
        made.command("down", capture=False)


@pytest.fixture
def node(lab):
    """The node that most tests look at."""
    return lab.node("node1")


@pytest.fixture
def people(node):
    """Makes users of this test's own: `alice, bob = people("alice", "bob")`. They are deleted when it has ended."""
    made: list[Person] = []

    def make(*names: str) -> list[Person]:
        fresh = [Person(node, f"{name}-{secrets.token_hex(3)}", secrets.token_urlsafe(9)) for name in names]
        for person in fresh:
            node.cli("users", "add", person.user, "--password", person.password)
            made.append(person)
        return fresh

    yield make
    # Some tests delete theirs themselves: then one refusal must not keep the others.
    names = [person.user for person in made]
    if names and node.attempt_cli("users", "delete", *names).returncode != 0:
        for name in names:
            node.attempt_cli("users", "delete", name)
