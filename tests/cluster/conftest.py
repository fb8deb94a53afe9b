"""One cluster for all tests of a session: node1 is the publisher, node2 and node3 joined it.

`SIGNALBOX_LAB=running` tests the cluster that is up already, and leaves it up.
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
        made.command("up", "--nodes", "3", capture=False, seconds=600)
    yield made
    if not running:
        made.command("down", capture=False)


@pytest.fixture
def publisher(lab):
    """The node that takes changes."""
    return lab.node("node1")


@pytest.fixture
def subscriber(lab):
    """A node that joined. Tests that switch it off leave it off only until they end."""
    yield lab.node("node2")
    if lab.node("node2").entry["leader_pid"] is None:
        lab.command("start", "node2", seconds=240)


@pytest.fixture
def person(publisher):
    """A user that the publisher knows, for this test."""
    one = Person(publisher, f"person-{secrets.token_hex(3)}", secrets.token_urlsafe(9))
    publisher.cli("users", "add", one.user, "--password", one.password)
    yield one
    publisher.attempt_cli("users", "delete", one.user)
