"""The scenarios in which it matters that a third node can be asked."""

from __future__ import annotations

import pytest
from scenarios import SCENARIOS, run

NODES = 3


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name.startswith(("power", "shutdown", "cut"))])
def test_scenario(pair, seed, name):
    run(pair, seed, name)
