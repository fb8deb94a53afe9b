"""A person with slixmpp, a client library that this project did not write."""

from __future__ import annotations

import asyncio
import time

import slixmpp


async def until(what: str, look, seconds: float = 20, every: float = 0.02):
    """Wait until `look` returns something true, and return that. `what` is said when it never does."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s still not: {what} (last seen: {seen!r})")
        await asyncio.sleep(every)


class Slix(slixmpp.ClientXMPP):
    """Signs in, keeps what arrives, comes back by itself when the connection is lost."""

    def __init__(
        self, node, user: str, password: str, *, resource: str = "slix", direct_tls: bool = False,
        mechanism: str | None = None, plain: bool = False, plugins: tuple[str, ...] = ("xep_0198",),
    ):
        config = {"feature_mechanisms": {"use_mech": mechanism}} if mechanism else {}
        super().__init__(f"{user}@{node.domain}/{resource}", password, plugin_config=config)
        for plugin in ("xep_0199", "xep_0030", *plugins):
            self.register_plugin(plugin)
        # The certificate is checked against the node's CA, and against nothing else.
        self.ssl_context.load_verify_locations(cafile=node.ca)
        self.enable_direct_tls, self.enable_starttls, self.enable_plaintext = direct_tls, not direct_tls, plain
        # What others may do without being asked is for the tests to say.
        self.auto_authorize = self.auto_subscribe = None
        self.place = (node.address, node.xmpps if direct_tls else node.xmpp)
        self.texts: list[tuple[str, str]] = []
        self.messages: list[slixmpp.Message] = []
        self.presences: list[slixmpp.Presence] = []
        self.online = False
        self.staying = False
        self.sessions = 0
        self.resumptions = 0
        self.failures: list[str] = []
        self.waiting: list[tuple[str, str]] = []
        for event, handler in {
            "session_start": self.on_session, "session_resumed": self.on_resumed, "disconnected": self.on_disconnected,
            "message": self.on_message, "message_error": self.messages.append, "presence": self.presences.append, "failed_auth": self.on_failed_auth,
            "stream_error": self.on_stream_error, "failed_all_auth": self.on_failed_auth, "connection_failed": lambda error: self.failures.append(str(error)),
        }.items():
            self.add_event_handler(event, handler)

    def on_session(self, _event) -> None:
        """Signed in."""
        self.sessions += 1
        self.online = True

    def on_resumed(self, _event) -> None:
        """The session went on after the connection was lost."""
        self.resumptions += 1
        self.online = True

        for to, body in self.take_waiting():
            self.write(to, body)

    def take_waiting(self) -> list[tuple[str, str]]:
        """What was written while there was no connection."""
        waiting, self.waiting = self.waiting, []
        return waiting

    def write(self, to: str, body: str) -> None:
        """Send a chat message, now or when there is a connection again.

        slixmpp would put such messages before those that it sends again after a resumption, out of order.
        """
        if self.online:
            self.send_message(to, body, mtype="chat")
        else:
            self.waiting.append((to, body))

    def connection_lost(self, exception) -> None:
        """Rescue what is still in slixmpp's queue: it would be thrown away, uncounted by stream management."""
        while not self.waiting_queue.empty():
            stanza, _ = self.waiting_queue.get_nowait()
            if isinstance(stanza, slixmpp.Message):
                self.waiting.append((str(stanza["to"]), stanza["body"]))
        super().connection_lost(exception)

    def on_disconnected(self, _reason) -> None:
        """Come back unless we left."""
        self.online = False
        if self.staying:
            self.loop.call_later(0.2, self.again)

    def on_stream_error(self, error) -> None:
        """Another node serves us: come back there."""
        if error["condition"] == "see-other-host":
            self.place = (error["see_other_host"].strip("[]"), self.place[1])

    def again(self) -> None:
        """Connect once more."""
        if self.staying:
            self.connect(*self.place)

    def on_message(self, message) -> None:
        """Keep what arrives."""
        self.messages.append(message)
        if message["body"]:
            self.texts.append((message["from"].bare, message["body"]))

    def on_failed_auth(self, failure) -> None:
        """Keep the reason."""
        self.failures.append(failure["condition"] if failure else "no mechanism")

    async def sign_in(self, *, presence: bool = True, seconds: float = 20) -> Slix:
        """Connect, authenticate, bind; then say that we are there."""
        self.staying = True
        self.connect(*self.place)
        await until(f"{self.boundjid.bare} signs in ({self.failures})", lambda: self.online, seconds)
        if presence:
            await self.get_roster()
            self.send_presence()
            bound = self.boundjid.full
            await until("our own presence comes back", lambda: any(p["from"].full == bound for p in self.presences))
        return self

    async def refused(self, seconds: float = 20) -> str:
        """Try to sign in; return why it was refused."""
        self.connect(*self.place)
        await until("the sign-in is refused", lambda: self.failures or self.online, seconds)
        assert not self.online, "the sign-in was not refused"
        return self.failures[0]

    async def handled(self, seconds: float = 20) -> None:
        """Wait until the server has taken over everything that was sent so far (XEP-0198 §4)."""
        management = self.plugin["xep_0198"]
        # What is still in slixmpp's own queue is not counted yet.
        await until("everything is on its way", self.waiting_queue.empty, seconds)
        management.request_ack()
        await until("the server has taken over what was sent", lambda: not management.unacked_queue, seconds)

    def subscriptions(self) -> dict[str, str]:
        """Our roster: `none`, `to`, `from` or `both` for each contact."""
        return {jid: self.client_roster[jid]["subscription"] for jid in self.client_roster.keys() if jid != self.boundjid.bare}

    async def sign_out(self) -> None:
        """Leave in order: XEP-0198 recommends to say first what has arrived."""
        self.staying = False
        if self.online and "xep_0198" in self.plugin and self.plugin["xep_0198"].enabled_in:
            self.plugin["xep_0198"].send_ack()
        await self.disconnect(wait=2)

    def drop(self) -> None:
        """Lose the connection without a word, and do not come back."""
        self.staying = False
        if self.transport:
            self.transport.abort()

    async def received(self, body: str, seconds: float = 20):
        """Wait for a message with that body."""
        return await until(
            f"{self.boundjid} receives {body!r}", lambda: next((m for m in self.messages if m["body"] == body), None), seconds,
        )

    async def sees(self, who: str, kind: str, seconds: float = 20):
        """Wait for a presence of that type from that person, bare or full address; answers the newest."""
        def look():
            for presence in reversed(self.presences):
                if who in (presence["from"].full, presence["from"].bare):
                    return presence if presence["type"] == kind else None
            return None
        return await until(f"{self.boundjid} sees {who} {kind}", look, seconds)
