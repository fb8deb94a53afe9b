"""People whose home nodes differ see each other and write to each other."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from conversation import befriend, talk
from node import Person, eventually, online, scene
from person import redirection
from slix import until


@pytest.fixture
def people(lab, publisher):
    """One person at home at each node, whom every node knows."""
    nodes = [lab.node(f"node{number}") for number in (1, 2, 3)]
    made = [Person(node, f"at-{node.name}-{secrets.token_hex(3)}", secrets.token_urlsafe(9)) for node in nodes]
    for one in made:
        publisher.cli("users", "add", one.user, "--password", one.password)
        publisher.cli("users", "assign", one.node.name, one.user)
    for node in nodes:
        for one in made:
            eventually("the home is known", lambda: one.node.name in node.cli("users", "show", one.user), 10)
    yield made
    for one in made:
        publisher.attempt_cli("users", "delete", one.user)


def test_who_signs_in_elsewhere_is_told_where_to_go(people, lab):
    for person in people:
        for number in (1, 2, 3):
            node = lab.node(f"node{number}")
            expected = "" if node.name == person.node.name else person.node.address
            assert redirection(person, node) == expected, (person.user, node.name)


@scene()
async def test_both_families_of_clients_follow(people, lab):
    first, second, _ = people
    slix = Person(lab.node("node2"), first.user, first.password).slix()
    script = Person(lab.node("node1"), second.user, second.password).javascript()
    async with online(slix, script):
        assert slix.place[0] == first.node.address
        slix.write(second.jid, "over there")
        await script.received("over there")


@scene(180)
async def test_people_of_three_nodes_meet_and_talk(people):
    alice, bob, carol = people
    a, b, c = alice.slix(), bob.slix(), carol.javascript()
    async with online(a, b, c):
        await befriend(a, c)
        await befriend(b, c)
        await talk(a, c, alice, carol)
        b.write(carol.jid, "from the second")
        await c.received("from the second")
        # A request, its answer and its error find their ways, too.
        answer = await c.ask(a.boundjid.full, "ping", "urn:xmpp:ping")
        assert "result" in answer.get("xml", ""), answer
        gone = await c.ask(f"{bob.jid}/nowhere", "ping", "urn:xmpp:ping")
        assert gone.get("error") == "service-unavailable", gone
        b.send_presence(ptype="unavailable")
        await c.sees(b.boundjid.full, "unavailable")


@scene(180)
async def test_a_link_that_is_cut_and_healed(people, lab):
    _, bob, carol = people
    b, c = bob.slix(), carol.javascript()
    async with online(b, c):
        await befriend(b, c)
        lab.command("cut", "node2", "node3")
        try:
            await c.sees(b.boundjid.full, "unavailable", 30)
            await b.sees(c.full, "unavailable", 30)
            b.write(carol.jid, "stored")
            # Both still reach the publisher, and the database with it.
            await c.received("stored", 30)
            await b.handled(30)
        finally:
            lab.command("heal")
        await c.sees(b.boundjid.full, "available", 30)
        await b.sees(c.full, "available", 30)
        b.write(carol.jid, "direct")
        await c.received("direct")
        assert [body for _, body in c.texts] == ["stored", "direct"]


@scene(300)
async def test_what_is_written_to_a_node_that_died_is_there_when_it_is_back(people, lab):
    alice, _, carol = people
    a, c = alice.slix(), carol.javascript()
    async with online(a, c):
        await befriend(a, c)
        lab.command("kill", "node3")
        try:
            await a.sees(c.full, "unavailable", 30)
            for number in range(5):
                a.write(carol.jid, f"{number} while away")
            await a.handled(60)
        finally:
            await asyncio.to_thread(lab.command, "start", "node3", seconds=240)
        back = carol.slix()
        async with online(back):
            expected = [(alice.jid, f"{number} while away") for number in range(5)]
            await until("all arrive", lambda: len(back.texts) >= 5, 30)
            assert back.texts == expected
            await a.sees(back.boundjid.full, "available", 30)


def test_strangers_do_not_reach_the_router(publisher):
    """TLS 1.3 with a certificate of the cluster, or nothing."""
    import socket
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["signalbox-router"])
    with socket.create_connection((publisher.address, 7400), 10) as plain:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with context.wrap_socket(plain) as stream:
                stream.sendall(bytes(13))
                assert stream.recv(100) == b""
                raise ConnectionError("it was closed without a word")
