"""What was stored is there after the power was cut."""

from __future__ import annotations

from node import online, scene
from slix import until


@scene(300)
async def test_settings_and_messages_survive_a_power_cut(lab, node, people):
    alice, bob = people("alice", "bob")
    async with online(alice.slix(), bob.javascript()) as (a, b):
        a.send_presence_subscription(pto=bob.jid, ptype="subscribe")
        await b.sees(alice.jid, "subscribe")
        b.order("presence", to=alice.jid, type="subscribed")
        await a.sees(b.full, "available")
        a.register_plugin("xep_0054")
        card = a.plugin["xep_0054"].make_vcard()
        card["FN"] = "Alice Example"
        await a.plugin["xep_0054"].publish_vcard(card)
        await b.sign_out()
        await a.sees(b.full, "unavailable")
        for number in range(20):
            a.write(bob.jid, f"while you were away {number}")
        await a.handled()
        lab.command("kill", node.name)
        a.staying = False
    lab.command("start", node.name, seconds=240)
    async with online(bob.javascript()) as (b,):
        await until("all have arrived", lambda: len(b.texts) >= 20)
        assert b.texts == [(alice.jid, f"while you were away {number}") for number in range(20)]
        assert "Alice Example" in (await b.ask(alice.jid, "vCard", "vcard-temp"))["xml"]
    async with online(alice.slix()) as (a,):
        assert a.subscriptions() == {bob.jid: "to"}


@scene(300)
async def test_messages_survive_an_orderly_restart(lab, node, people):
    alice, bob = people("alice", "bob")
    async with online(alice.slix()) as (a,):
        a.write(bob.jid, "over night")
        await a.handled()
    lab.command("stop", node.name)
    lab.command("start", node.name, seconds=240)
    async with online(bob.slix()) as (b,):
        await b.received("over night")
