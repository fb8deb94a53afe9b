"""The real-time stores of a pair keep copies of each other's rows."""

from __future__ import annotations

import asyncio

import pytest
from node import eventually, online, scene

NODES = 2
STORES = ("login-datastore", "presence-datastore", "route-datastore", "sip-registration-datastore")


def stores(node) -> dict[str, dict]:
    """Each real-time store of a node by its id."""
    return {store["service"]: store for store in node.cli_json("utils", "imdb_replication", "status")["datastores"]}


def in_order(pair) -> bool:
    """Whether every store of both nodes has confirmed all that the other wrote, and has as many rows of it."""
    one, two = stores(pair.one), stores(pair.two)
    for here, there, peer in ((one, two, pair.two), (two, one, pair.one)):
        for name in STORES:
            seen = here[name]["replication"]
            if not (here[name]["passed"] and seen["good"] and seen["peer"] == peer.name and seen["lag"] == 0):
                return False
            if seen["copies"] != there[name]["rows"]:
                return False
    return True


async def soon(what: str, look, seconds: float) -> None:
    """Wait while the clients go on."""
    await asyncio.to_thread(eventually, what, look, seconds)


@pytest.fixture
def people(pair, at_home):
    """Somebody at home on each node."""
    return at_home(pair.one, pair.two)


def test_sessions_and_presence_are_copied(pair, people):
    eventually("both are equal", lambda: in_order(pair), 30)
    before = {name: store["replication"]["copies"] for name, store in stores(pair.two).items()}

    @scene(60)
    async def signed_in():
        async with online(*(person.slix() for person in people)):
            await soon("the session has come", lambda: stores(pair.two)["login-datastore"]["replication"]["copies"] == before["login-datastore"] + 1, 10)
            await soon("both are equal", lambda: in_order(pair), 10)
            for name in ("presence-datastore", "route-datastore"):
                assert stores(pair.two)[name]["replication"]["copies"] == before[name] + 1

    signed_in()
    eventually("the session went", lambda: stores(pair.two)["login-datastore"]["replication"]["copies"] == before["login-datastore"], 10)
    text = pair.one.cli("utils", "imdb_replication", "status")
    assert "replication with node2: good, 0 changes behind" in text


def test_a_store_that_was_killed_is_equal_again(pair, people):
    @scene(60)
    async def signed_in():
        async with online(*(person.slix() for person in people)):
            for node in (pair.one, pair.two):
                node.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "presence-datastore")
            await soon("both are equal", lambda: in_order(pair), 30)
            assert stores(pair.one)["presence-datastore"]["rows"] >= 1

    signed_in()


def test_a_cut_is_seen_and_made_good(pair, people):
    eventually("both are equal", lambda: in_order(pair), 30)
    pair.lab.command("cut", "node1", "node2")
    eventually("the other store is missed", lambda: stores(pair.one)["login-datastore"]["replication"]["state"] == "not connected", 30)
    assert stores(pair.one)["login-datastore"]["passed"]
    pair.lab.command("heal")
    pair.restore()
    eventually("both are equal", lambda: in_order(pair), 30)
