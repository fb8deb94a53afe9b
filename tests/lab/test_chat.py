"""Two people, two families of clients, over TLS with the certificate checked: they see each other and talk."""

from __future__ import annotations

import asyncio

import pytest
from conversation import befriend, talk
from node import eventually, online, scene
from slix import until


@scene()
async def test_two_people_subscribe_and_see_each_other_come_and_go(people):
    alice, bob = people("alice", "bob")
    async with online(alice.slix(), bob.javascript()) as (a, b):
        await befriend(a, b)
        await until("alice's roster says so", lambda: a.subscriptions() == {bob.jid: "both"})
        a.send_presence(pshow="dnd", pstatus="in a meeting")
        await until("bob sees dnd", lambda: any(p.get("show") == "dnd" for p in b.of("presence")))
        await a.sign_out()
        await b.sees(a.boundjid.full, "unavailable")


@scene()
async def test_a_lost_connection_without_resumption_shows_as_going_away(people):
    """Presence ends when the session has, not only when a client says good-bye."""
    alice, bob = people("alice", "bob")
    # Without stream management there is nothing to wait for.
    async with online(alice.slix(plugins=()), bob.javascript()) as (a, b):
        await befriend(a, b)
        full = a.boundjid.full
        a.drop()
        await b.sees(full, "unavailable")


@scene()
async def test_the_subscription_is_still_there_at_the_next_sign_in(people):
    alice, bob = people("alice", "bob")
    async with online(alice.slix(), bob.javascript()) as (a, b):
        await befriend(a, b)
    async with online(bob.javascript()) as (b,):
        async with online(alice.slix()) as (a,):
            # No word from alice to bob: the server tells both, by their rosters.
            await b.sees(a.boundjid.full, "available")
            await a.sees(b.full, "available")


@scene()
async def test_a_request_waits_for_somebody_who_is_away(people):
    alice, bob = people("alice", "bob")
    async with online(alice.slix()) as (a,):
        a.send_presence_subscription(pto=bob.jid, ptype="subscribe")
        await until("alice's roster shows it", lambda: a.client_roster[bob.jid]["pending_out"])
    async with online(bob.javascript()) as (b,):
        await b.sees(alice.jid, "subscribe")


@pytest.mark.parametrize("direct_tls", [False, True], ids=["STARTTLS", "direct TLS"])
@scene(200)
async def test_a_thousand_messages_each_way_arrive_in_order(people, direct_tls):
    alice, bob = people("alice", "bob")
    async with online(alice.slix(direct_tls=direct_tls), bob.javascript(direct_tls=direct_tls)) as (a, b):
        await talk(a, b, alice, bob)


@scene(240)
async def test_no_message_is_lost_when_the_connection_manager_is_killed(node, people):
    """Both clients resume: stream management lives in the router, so nothing of it dies with the connection."""
    alice, bob = people("alice", "bob")
    before = node.main_pid("xmpp-router")

    async def kill() -> None:
        await asyncio.to_thread(node.run, "systemctl", "kill", "--signal=KILL", "xmpp-connection-manager")

    async with online(alice.slix(), bob.javascript()) as (a, b):
        await talk(a, b, alice, bob, kill)
        assert (a.resumptions, b.resumptions) == (1, 1)
        assert a.sessions == 1, "no new session: the old one went on"
    assert node.main_pid("xmpp-router") == before
    eventually("the connection manager is up", lambda: node.state("xmpp-connection-manager") == "STARTED")


@scene()
async def test_a_message_to_somebody_away_waits_with_its_time(people):
    alice, bob = people("alice", "bob")
    async with online(alice.slix()) as (a,):
        a.write(bob.jid, "see you tomorrow")
        await a.handled()
    async with online(bob.slix(plugins=("xep_0203", "xep_0198"))) as (b,):
        message = await b.received("see you tomorrow")
        assert message["from"].bare == alice.jid
        assert message["delay"]["stamp"] is not None
    async with online(bob.slix(plugins=("xep_0198",))) as (b,):
        await b.plugin["xep_0199"].ping(bob.jid)
        assert b.texts == [], "delivered once"


@scene()
async def test_the_bare_address_reaches_the_devices_that_want_it(people):
    """RFC 6121 §8.5.2.1: never a device with negative priority."""
    alice, bob = people("alice", "bob")
    phone, desk = bob.slix(resource="phone"), bob.slix(resource="desk")
    async with online(alice.slix(), phone, desk) as (a, phone, desk):
        phone.send_presence(ppriority=-1)
        await until("the phone's priority is known", lambda: any(p["priority"] == -1 for p in desk.presences))
        a.write(bob.jid, "to whom it may concern")
        await desk.received("to whom it may concern")
        a.write(f"{bob.jid}/phone", "to the phone")
        await phone.received("to the phone")
        assert [body for _, body in phone.texts] == ["to the phone"]


@scene()
async def test_carbons_show_the_other_device_what_was_said(people):
    alice, bob = people("alice", "bob")
    phone, desk = bob.slix(resource="phone", plugins=("xep_0280",)), bob.slix(resource="desk", plugins=("xep_0280",))
    async with online(alice.slix(), phone, desk) as (a, phone, desk):
        carbons: list[str] = []
        desk.add_event_handler("carbon_received", lambda m: carbons.append(m["carbon_received"]["body"]))
        desk.add_event_handler("carbon_sent", lambda m: carbons.append(m["carbon_sent"]["body"]))
        await desk.plugin["xep_0280"].enable()
        a.write(f"{bob.jid}/phone", "where are you")
        await phone.received("where are you")
        phone.write(alice.jid, "on my way")
        await a.received("on my way")
        await until("the desk has seen both", lambda: carbons == ["where are you", "on my way"])


@scene()
async def test_somebody_blocked_gets_through_no_more(people):
    alice, bob = people("alice", "bob")
    async with online(alice.slix(), bob.slix(plugins=("xep_0191", "xep_0198"))) as (a, b):
        await b.plugin["xep_0191"].block(alice.jid)
        a.write(bob.jid, "let me in")
        await until("alice is told", lambda: any(m["type"] == "error" for m in a.messages))
        await b.plugin["xep_0191"].unblock(alice.jid)
        a.write(bob.jid, "thank you")
        await b.received("thank you")
        assert [body for _, body in b.texts] == ["thank you"]


@scene()
async def test_the_newer_session_takes_the_resource(people):
    """RFC 6120 §7.7.2.2: either may win, and the two must not both stay."""
    (alice,) = people("alice")
    async with online(alice.slix(resource="same")) as (first,):
        first.staying = False
        async with online(alice.slix(resource="same")) as (second,):
            await until("the older session has ended, or the newer got another name",
                        lambda: not first.is_connected() or second.boundjid.full != first.boundjid.full)


@scene()
async def test_disco_ping_vcard_and_time_of_the_standard_requests(people, node):
    alice, bob = people("alice", "bob")
    async with online(alice.slix(plugins=("xep_0054", "xep_0198")), bob.javascript()) as (a, b):
        info = await a.plugin["xep_0030"].get_info(jid=node.domain)
        assert ("server", "im") in {identity[:2] for identity in info["disco_info"]["identities"]}
        assert {"urn:xmpp:ping", "vcard-temp", "urn:xmpp:carbons:2", "urn:xmpp:blocking"} <= set(info["disco_info"]["features"])
        assert "error" not in await b.ask(None, "ping", "urn:xmpp:ping")
        card = a.plugin["xep_0054"].make_vcard()
        card["FN"] = "Alice Example"
        await a.plugin["xep_0054"].publish_vcard(card)
        assert "Alice Example" in (await b.ask(alice.jid, "vCard", "vcard-temp"))["xml"]
        # RFC 6120 §8.4: what nobody understands gets an error, not silence.
        assert (await b.ask(None, "query", "urn:example:nothing"))["error"] == "service-unavailable"
