"""People with a client each, and what tests do with them, in the lab and in virtual machines alike.

A node, to them, is whatever has `domain`, `address`, the ports `xmpp` and `xmpps`, and `ca`, a file with the certificate that
signed the node's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from dataclasses import dataclass

from javascript import JavaScript
from slix import Slix
from wire import Wire


def eventually(what: str, look, seconds: float = 30, every: float = 0.1):
    """Call `look` until it returns something true, and return that. `what` is said when it never does."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s still not: {what} (last seen: {seen!r})")
        time.sleep(every)


@dataclass
class Person:
    """A user of a node, and how to be that user."""

    node: object
    user: str
    password: str

    @property
    def jid(self) -> str:
        """The bare address."""
        return f"{self.user}@{self.node.domain}"

    def slix(self, **options) -> Slix:
        """As that person with slixmpp."""
        return Slix(self.node, self.user, options.pop("password", self.password), **options)

    def javascript(self, **options) -> JavaScript:
        """As that person with @xmpp/client."""
        return JavaScript(self.node, self.user, options.pop("password", self.password), **options)

    def wire(self, **options) -> Wire:
        """A bare connection to the person's node."""
        return Wire(self.node, **options)


def redirection(person: Person, node) -> str:
    """Where a node sends somebody who signs in; empty when it takes them."""
    with Wire(node, direct_tls=True) as wire:
        wire.header()
        assert wire.plain(person.user, person.password).startswith(b"<success")
        wire.header()
        wire.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        heard = wire.hear(rb"<see-other-host[^>]*>([^<]*)</see-other-host>|<jid>")
        return (heard[1] or b"").decode()


@contextlib.asynccontextmanager
async def online(*clients, presence: bool = True):
    """Sign all of them in, and all out again."""
    try:
        for client in clients:
            await client.sign_in(presence=presence)
        yield clients
    finally:
        for client in clients:
            await client.sign_out()


def scene(seconds: float | None = 90):
    """Make a test of an async function; it must end in time (None: what it calls has limits of its own)."""
    def decorate(function):
        @functools.wraps(function)
        def test(**fixtures):
            async def bounded():
                async with asyncio.timeout(seconds):
                    await function(**fixtures)
            asyncio.run(bounded())
        return test
    return decorate
