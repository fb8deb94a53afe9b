"""What contacts and clients notice when a node takes its peer's users over."""

from __future__ import annotations

import asyncio

import pytest
from node import Person, eventually, online, scene
from slix import until

NODES = 2


@pytest.fixture
def people(pair, at_home):
    """Somebody at home on each node."""
    return at_home(pair.one, pair.two)


def went(watcher, jid: str) -> list[str]:
    """The addresses of a user that somebody saw go."""
    return [p["from"].full for p in watcher.presences if p["type"] == "unavailable" and p["from"].bare == jid]


async def befriend(a, b, alice, bob) -> None:
    """Each sees the other."""
    for one, other, who in ((a, b, alice), (b, a, bob)):
        one.send_presence_subscription(pto=(bob if who is alice else alice).jid, ptype="subscribe")
        await other.sees(who.jid, "subscribe")
        other.send_presence_subscription(pto=who.jid, ptype="subscribed")
    await b.sees(a.boundjid.full, "available")
    await a.sees(b.boundjid.full, "available")


async def talk(a, b, alice, bob, mark: str) -> None:
    """A message each way."""
    a.write(bob.jid, f"{mark} to bob")
    b.write(alice.jid, f"{mark} to alice")
    await b.received(f"{mark} to bob", 30)
    await a.received(f"{mark} to alice", 30)


def phantoms(node) -> int:
    """Sessions that wait for their clients."""
    return node.counters("JSM Session Counters")["JsmPhantomSessionsActive"]


@scene(300)
async def test_by_hand_nobody_is_seen_to_go_and_nothing_is_lost(pair, people):
    """Failover and fallback, with a client that follows at once."""
    alice, bob = people
    a, b = alice.slix(), bob.slix()
    async with online(a, b):
        await befriend(a, b, alice, bob)
        b.presences.clear()
        # However often she has to sign in on the way.
        a.add_event_handler("session_start", lambda _: a.send_presence())
        for verb, node in (("failover", pair.two), ("fallback", pair.one)):
            sessions = a.sessions
            writing = asyncio.create_task(write_on(b, alice.jid, verb))
            await asyncio.to_thread(pair.one.cli, "utils", "ha", verb, "node1")
            await until("she is at the other node", lambda: a.online and a.sessions > sessions and a.place[0] == node.address, 60)
            await asyncio.sleep(2)
            writing.cancel()
            await talk(a, b, alice, bob, verb)
            if verb == "failover":
                await asyncio.to_thread(eventually, "the state", lambda: pair.serves(pair.two, pair.two) == ["node1", "node2"], 30)
            else:
                await asyncio.to_thread(pair.normal)
            assert went(b, alice.jid) == []
        await asyncio.sleep(21)
        assert went(b, alice.jid) == []
        for verb in ("failover", "fallback"):
            numbers = [int(body.split()[1]) for _, body in a.texts if body.startswith(f"{verb} ") and body.split()[1].isdigit()]
            wanted = [int(body.split()[1]) for body in b.written if body.startswith(f"{verb} ")]
            assert sorted(set(numbers)) == wanted, f"{verb}: sent {wanted}, arrived {numbers}"
            pair.figures.append(f"{verb} by hand: {len(wanted)} messages sent, {len(set(wanted) - set(numbers))} lost, {len(numbers) - len(set(numbers))} twice")


async def write_on(client, to: str, mark: str) -> None:
    """Write a numbered message again and again."""
    client.written = getattr(client, "written", [])
    number = 0
    while True:
        number += 1
        client.written.append(f"{mark} {number}")
        client.write(to, f"{mark} {number}")
        await asyncio.sleep(0.05)


@scene(300)
async def test_who_does_not_come_back_at_once_is_a_phantom_and_gets_what_was_written(pair, people):
    """Power loss of node 2; node 1 is the publisher, without whom nothing can be stored."""
    alice, bob = people
    a, b = alice.slix(), bob.slix()
    async with online(a, b):
        await befriend(a, b, alice, bob)
        a.presences.clear()
        b.staying = False
        with pair.scenario("power loss, seen by a contact", pair.one):
            await asyncio.to_thread(pair.lab.command, "kill", "node2")
            await asyncio.to_thread(eventually, "it is taken over", lambda: pair.serves(pair.one, pair.one) == ["node1", "node2"], 30)
        await asyncio.to_thread(eventually, "his session is a phantom", lambda: phantoms(pair.one) == 1, 10)
        a.write(bob.jid, "while he was away")
        await a.handled(30)
        await asyncio.sleep(22)
        assert went(a, bob.jid) == []
        b.abort()
        back = Person(pair.one, bob.user, bob.password).slix()
        async with online(back):
            await back.received("while he was away")
            await talk(a, back, alice, bob, "after it")
            assert went(a, bob.jid) == []
            await asyncio.to_thread(eventually, "the phantom is his again", lambda: phantoms(pair.one) == 0, 10)
        await until("he left", lambda: went(a, bob.jid), 10)
