"""What two people, each with a client of another family, do with each other."""

from __future__ import annotations

import asyncio
import contextlib

from slix import until

CROWD = 1000
"""Messages in one direction."""


async def befriend(slix, js) -> None:
    """Each subscribes to the other's presence, and each agrees."""
    slix.send_presence_subscription(pto=js.bare, ptype="subscribe")
    await js.sees(slix.boundjid.bare, "subscribe")
    js.order("presence", to=slix.boundjid.bare, type="subscribed")
    await slix.sees(js.full, "available")
    js.order("presence", to=slix.boundjid.bare, type="subscribe")
    await until("the request arrives", lambda: any(p["type"] == "subscribe" for p in slix.presences))
    slix.send_presence_subscription(pto=js.bare, ptype="subscribed")
    await js.sees(slix.boundjid.full, "available")


def ordered(writer: str, count: int) -> list[tuple[str, str]]:
    """What the reader must have received: everything, once, in order."""
    return [(writer, f"{number} of {count}") for number in range(count)]


async def talk(a, b, alice, bob, between=None) -> None:
    """Both write CROWD messages at once; `between` happens when a third of them is out, while they go on writing."""
    async def write(send) -> None:
        for number in range(CROWD):
            send(f"{number} of {CROWD}")
            # Fast, but the other direction gets its turn; slow enough, when something happens, to be in the middle of it.
            if between and number > CROWD // 3:
                await asyncio.sleep(0.01)
            elif number % 20 == 0:
                await asyncio.sleep(0)

    writing = asyncio.gather(
        write(lambda body: a.write(bob.jid, body)), write(lambda body: b.write(alice.jid, body)),
    )
    if between:
        await until("a third has arrived", lambda: min(len(a.texts), len(b.texts)) > CROWD // 3, 60)
        await between()
        assert not writing.done(), "it happened in the middle"
    await writing
    with contextlib.suppress(AssertionError):  # what is missing says more than that something is
        await until("all have arrived", lambda: min(len(a.texts), len(b.texts)) >= CROWD, 60)
    compare("the JavaScript client", b.texts, ordered(alice.jid, CROWD))
    compare("slixmpp", a.texts, ordered(bob.jid, CROWD))


def compare(reader: str, texts: list, expected: list) -> None:
    """Fails with what is missing or there twice, not with a thousand lines."""
    missing = [body for _, body in expected if texts.count((expected[0][0], body)) == 0]
    twice = [body for _, body in expected if texts.count((expected[0][0], body)) > 1]
    assert texts == expected, f"{reader} has {len(texts)} of {len(expected)} messages; missing {missing[:10]}, twice {twice[:10]}"
