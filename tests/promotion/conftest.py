"""One cluster of three nodes, whose publisher is lost: the tests of a file follow each other."""

from __future__ import annotations

import pytest
from node import Lab


@pytest.fixture(scope="module")
def lab():
    """node1 is the publisher, node2 and node3 joined it."""
    made = Lab()
    made.command("up", "--nodes", "3", capture=False, seconds=600)
    yield made
    made.command("down", capture=False)
