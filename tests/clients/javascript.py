"""A person with @xmpp/client: the same words as `Slix`, spoken by another family of client."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from pathlib import Path

from slix import until

SCRIPT = Path(__file__).resolve().parent / "node/client.mjs"


class JavaScript:
    """Runs node/client.mjs and keeps what it tells."""

    def __init__(self, node, user: str, password: str, *, resource: str = "js", direct_tls: bool = False):
        self.service = f"xmpps://{node.address}:{node.xmpps}" if direct_tls else f"xmpp://{node.address}:{node.xmpp}"
        self.arguments = [self.service, node.domain, user, password, resource]
        self.bare = f"{user}@{node.domain}"
        self.full = f"{self.bare}/{resource}"
        self.ca = node.ca
        self.events: list[dict] = []
        self.process: asyncio.subprocess.Process | None = None
        self.reader: asyncio.Task | None = None
        self.tokens = itertools.count()

    async def start(self) -> None:
        """Start the client without waiting for anything."""
        # Node.js adds this certificate to those it trusts; ours is signed by no other.
        environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(self.ca)}
        self.process = await asyncio.create_subprocess_exec(
            "node", str(SCRIPT), *self.arguments, env=environment,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
        )
        self.reader = asyncio.create_task(self.read())

    async def read(self) -> None:
        """Keep every event."""
        async for line in self.process.stdout:
            self.events.append(json.loads(line))

    def of(self, kind: str) -> list[dict]:
        """The events of one kind, oldest first."""
        return [event for event in self.events if event["event"] == kind]

    @property
    def texts(self) -> list[tuple[str, str]]:
        """Who wrote what."""
        return [(event["from"].partition("/")[0], event["body"]) for event in self.of("message") if event.get("body")]

    @property
    def resumptions(self) -> int:
        """How often the session went on after the connection was lost."""
        return len(self.of("resumed"))

    async def sign_in(self, *, presence: bool = True, seconds: float = 20) -> JavaScript:
        """Connect, authenticate, bind; then say that we are there."""
        await self.start()
        await until(f"{self.full} signs in ({self.of('error')})", lambda: self.of("online"), seconds)
        assert self.of("online")[0]["secure"], "the connection is encrypted"
        if presence:
            self.order("presence")
            await until("our own presence comes back", lambda: any(p["from"] == self.full for p in self.of("presence")))
        return self

    def order(self, what: str, **details) -> None:
        """Tell the client to do something."""
        self.process.stdin.write((json.dumps({"do": what, **details}) + "\n").encode())

    def write(self, to: str, body: str) -> None:
        """Send a chat message."""
        self.order("message", to=to, body=body)

    async def ask(self, to: str | None, name: str, xmlns: str, kind: str = "get") -> dict:
        """Send a request and wait for its answer."""
        token = next(self.tokens)
        self.order("iq", type=kind, to=to, name=name, xmlns=xmlns, token=token)
        return await until(f"an answer to {xmlns}", lambda: next((a for a in self.of("answer") if a["token"] == token), None))

    async def received(self, body: str, seconds: float = 20) -> dict:
        """Wait for a message with that body."""
        return await until(
            f"{self.full} receives {body!r}", lambda: next((m for m in self.of("message") if m.get("body") == body), None), seconds,
        )

    async def sees(self, who: str, kind: str, seconds: float = 20) -> dict:
        """Wait until the newest presence from that person, bare or full address, has that type."""
        def look():
            for presence in reversed(self.of("presence")):
                if who in (presence["from"], presence["from"].partition("/")[0]):
                    return presence if (presence.get("type") or "available") == kind else None
            return None
        return await until(f"{self.full} sees {who} {kind}", look, seconds)

    async def sign_out(self) -> None:
        """Leave in order, and end the process whatever happens."""
        if self.process is None:
            return
        if self.process.returncode is None:
            self.order("stop")
            try:
                await asyncio.wait_for(self.process.wait(), 5)
            except asyncio.TimeoutError:
                self.process.kill()
                await self.process.wait()
        await self.reader
