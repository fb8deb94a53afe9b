"""A subscriber behind a link of 80 milliseconds there and back, and 10 Mbit/s: the most that the seed allows."""

from __future__ import annotations

import os
import re
import secrets

import pytest
from node import eventually
from test_cluster import GOOD, states

USERS = 2000


pytestmark = pytest.mark.skipif(not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="a slow link needs /dev/net/tun")


@pytest.fixture
def far(lab, publisher):
    """A subscriber at the end of a slow link."""
    eventually("state 2 everywhere", lambda: states(publisher) == GOOD, 60)
    node = lab.node("node3")
    try:
        lab.command("slow", "node3", "--delay", "40", "--rate", "10")
        taken = node.run("ping", "-q", "-c", "3", publisher.address)
        assert float(re.search(r"= ([0-9.]+)/", taken)[1]) >= 80, taken
        yield node
    finally:
        if node.entry["leader_pid"] is None:
            lab.command("start", "node3", seconds=240)
        lab.command("heal")
    eventually("state 2 everywhere", lambda: states(publisher) == GOOD, 60)


@pytest.fixture
def crowd(publisher):
    """Adds many users; they are deleted in the end."""
    names = [f"far{index}-{secrets.token_hex(3)}" for index in range(USERS)]

    def add() -> str:
        rows = "".join(f"{name},{secrets.token_urlsafe(9)}\n" for name in names)
        publisher.cli("users", "import", "/dev/stdin", input="user,password\n" + rows, seconds=240)
        return names[-1]

    yield add
    for first in range(0, USERS, 500):
        publisher.attempt_cli("users", "delete", *names[first:first + 500], seconds=240)


def equal(publisher, node) -> bool:
    """Whether every table of the node is the publisher's, at the same place of the log."""
    found = publisher.cli_json("utils", "dbreplication", "quickaudit", node.name)["nodes"][0]
    return found["same_place"] and all(table["equal"] for table in found["tables"])


def test_one_that_was_away_catches_up(lab, publisher, far, crowd):
    lab.command("kill", far.name)
    last = crowd()
    lab.command("start", far.name, seconds=300)
    eventually("state 2 everywhere", lambda: states(publisher) == GOOD, 180)
    assert last in far.cli("users", "show", last)
    eventually("all tables are equal", lambda: equal(publisher, far), 30)


def test_one_that_begins_anew_gets_everything(publisher, far, crowd):
    last = crowd()
    publisher.cli("utils", "dbreplication", "forcedatasyncsub", far.name, "--yes", seconds=240)
    eventually("state 2 everywhere", lambda: states(publisher) == GOOD, 180)
    assert last in far.cli("users", "show", last)
    eventually("all tables are equal", lambda: equal(publisher, far), 30)
