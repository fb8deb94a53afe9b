"""Dual connections: a client's inactive connection to the node that takes over (crates/router/DUAL.md)."""

from __future__ import annotations

import asyncio
import time

import dual
import pytest
from node import Person, eventually, online, scene
from slix import until

NODES = 2


@pytest.fixture
def people(pair, at_home):
    """Two people at home on node 1, one on node 2."""
    return at_home(pair.one, pair.one, pair.two)


def second(person, node):
    """The same person's inactive connection to a node."""
    client = Person(node, person.user, person.password).slix(plugins=())
    client.register_plugin("dual", {"inactive": True})
    return client


def first(person):
    """A person's connection at home, which reads what is offered."""
    client = person.slix()
    client.register_plugin("dual")
    return client


def sessions(node) -> tuple[int, int]:
    """Active and inactive client sessions, as table 3 of the seed has them."""
    counters = node.counters("JSM Session Counters")
    return counters["JsmSessionsClient"], counters["JsmSessionsClientInactive"]


@scene(300)
async def test_an_inactive_connection_is_the_session_after_a_failover(pair, people):
    alice, anna, bob = people
    here = [first(person) for person in people]
    there = [second(alice, pair.two), second(anna, pair.two), second(bob, pair.one)]
    a, _, b = here
    async with online(*here), online(*there, presence=False):
        offer = a.plugin["dual"].offer
        assert (offer["host"], offer["least"], offer["most"]) == (pair.two.address, "120", "537")
        assert 120 <= a.plugin["dual"].pause() <= 537
        assert not any(client.plugin["dual"].active for client in there)
        for node, expected in ((pair.one, (2, 1)), (pair.two, (1, 2))):
            await asyncio.to_thread(eventually, f"the counters of {node.name}", lambda: sessions(node) == expected, 10)
        for one, other, who, whom in ((a, b, alice, bob), (b, a, bob, alice)):
            one.send_presence_subscription(pto=whom.jid, ptype="subscribe")
            await other.sees(who.jid, "subscribe")
            other.send_presence_subscription(pto=who.jid, ptype="subscribed")
        await b.sees(a.boundjid.full, "available")
        # Nothing of it came to the inactive ones.
        assert not any(client.presences or client.messages for client in there)
        b.presences.clear()
        for client in here[:2]:
            client.staying = False
        lost = asyncio.get_running_loop().create_future()
        a.add_event_handler("disconnected", lambda _: lost.done() or lost.set_result(time.monotonic()))
        await asyncio.to_thread(pair.one.cli, "utils", "ha", "failover", "node1")
        for client in there[:2]:
            await until("it is active", lambda: client.plugin["dual"].active, 30)
        gap = time.monotonic() - await lost
        b.write(alice.jid, "are you there")
        await there[0].received("are you there")
        there[0].write(bob.jid, "I am")
        await b.received("I am")
        await there[0].sees(b.boundjid.full, "available")
        assert not [p for p in b.presences if p["type"] == "unavailable" and p["from"].bare == alice.jid]
        await asyncio.to_thread(eventually, "the counters", lambda: sessions(pair.two) == (3, 0), 10)
        pair.figures.append(f"failover by hand, dual connections: active again {gap:.2f} s after the first connection was lost")
