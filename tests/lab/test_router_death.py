"""The death of the router loses nothing that it has acknowledged (XEP-0198); what comes twice has the same id."""

from __future__ import annotations

import asyncio

from node import eventually, online, scene
from slix import until

CROWD = 1000


async def kill_router(node) -> None:
    """As if it had crashed; it comes back by itself."""
    await asyncio.to_thread(node.run, "systemctl", "kill", "--signal=KILL", "--kill-whom=main", "xmpp-router")


def firsts(messages: list, writer: str) -> list[str]:
    """The ids of what came from a person, each where it came first."""
    return list(dict.fromkeys(message["id"] for message in messages if message["from"].bare == writer and message["type"] == "chat"))


def say(client, to: str, number: int):
    """Sends one message with an id of its own, now; answers it."""
    message = client.make_message(to, f"{number} of {CROWD}", mtype="chat")
    message["id"] = f"{client.boundjid.user}-{number}"
    message.send()
    return message


@scene(240)
async def test_what_was_acknowledged_arrives_in_order_though_the_router_is_killed(node, people):
    alice, bob = people("alice", "bob")
    before = node.main_pid("xmpp-router")
    async with online(alice.slix(), bob.slix()) as (a, b):
        handled: dict[object, list[str]] = {a: [], b: []}
        for client, ids in handled.items():
            client.add_event_handler("stanza_acked", lambda stanza, ids=ids: ids.append(stanza["id"]) if stanza.name == "message" else None)
            # Nothing can be resumed after this, so the second session begins as the first did.
            client.add_event_handler("session_start", lambda _, client=client: client.send_presence())
        killing = None
        for number in range(CROWD):
            for client, to in ((a, bob.jid), (b, alice.jid)):
                # What is written while there is no connection would not be sent, nor acknowledged.
                if client.online:
                    say(client, to, number)
            if number == CROWD // 2:
                await until("much has been acknowledged", lambda: min(map(len, handled.values())) > CROWD // 4, 60)
                killing = asyncio.ensure_future(kill_router(node))
            # Slow enough that it happens in the middle, and that some are written afterwards.
            await asyncio.sleep(0.02 if killing else 0)
        await killing
        await until("both are back", lambda: a.online and b.online and (a.sessions, b.sessions) == (2, 2), 60)
        await a.handled()
        await b.handled()
        for writer, reader in ((a, b), (b, a)):
            person, safe = writer.boundjid.bare, set(handled[writer])
            assert f"{writer.boundjid.user}-{CROWD - 1}" in safe, "the last was written after the router had died"
            missing = lambda: sorted(safe - set(firsts(reader.messages, person)))
            await until(f"{reader.boundjid.bare} has everything", lambda: not missing(), 60)
            order = [int(known.rpartition("-")[2]) for known in firsts(reader.messages, person)]
            assert order == sorted(order)
            bodies = {message["body"] for message in reader.messages if message["from"].bare == person}
            assert len(bodies) == len(order), "what came twice has the same id"
    assert node.main_pid("xmpp-router") != before
    node.settle(90)


@scene(240)
async def test_messages_for_a_suspended_client_survive_the_death_of_the_router(node, people):
    alice, bob = people("alice", "bob")
    async with online(alice.slix(), bob.slix()) as (a, b):
        # The connection ends without a word, so the session waits to be resumed.
        b.drop()
        full = b.boundjid.full
        for number in range(20):
            a.write(full, f"while you were gone {number}")
        await a.handled()
        before = node.main_pid("xmpp-router")
        await kill_router(node)
        await asyncio.to_thread(eventually, "the router is back", lambda: node.main_pid("xmpp-router") not in (0, before))
        await asyncio.to_thread(node.settle, 90)
        async with online(bob.slix(plugins=("xep_0203", "xep_0198"))) as (again,):
            await until("all are there", lambda: len(again.texts) >= 20)
            assert again.texts == [(alice.jid, f"while you were gone {number}") for number in range(20)]
            assert all(message["delay"]["stamp"] for message in again.messages if message["body"])
