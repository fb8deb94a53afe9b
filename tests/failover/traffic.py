"""Conversations that go on while something breaks, and the account of what became of every message."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import threading
import time
from dataclasses import dataclass, field

from node import Node
from slix import Slix

PACE = 0.2
"""Seconds between two messages of one person, on average."""

ASK, GIVE_UP = 1.0, 4.0
"""Seconds of silence after which a client asks whether the server is there, and after which it looks for another."""

SIGN_IN = 5.0
"""Seconds that a client gives one node to take it."""


@dataclass
class Account:
    """What became of the messages, and how long people heard nothing."""

    sent: int = 0
    delivered: int = 0
    lost: list[str] = field(default_factory=list)
    """Acknowledged by the server and delivered to nobody."""
    unsent: list[str] = field(default_factory=list)
    """Neither acknowledged nor delivered, although their sender tried to the end."""
    duplicated: int = 0
    dead: list[str] = field(default_factory=list)
    """People who were not signed in at the end."""
    gaps: list[float] = field(default_factory=list)
    """The longest silence of each person, in seconds."""
    resumed: int = 0
    """How often a session went on after its connection was lost."""
    begun: int = 0
    """How often a new session was begun after the first."""

    @property
    def gap(self) -> float:
        """The 99th percentile of the gaps, by nearest rank."""
        ordered = sorted(self.gaps)
        return ordered[max(0, -(-len(ordered) * 99 // 100) - 1)]

    def __str__(self) -> str:
        return (
            f"p99 gap {self.gap:.2f} s, sent {self.sent}, delivered {self.delivered}, lost {len(self.lost)}, "
            f"duplicated {self.duplicated}, sessions resumed {self.resumed}, begun anew {self.begun}"
        )


class Talker(Slix):
    """A person who writes at a steady pace, sends again what was not acknowledged, and knows the addresses of all nodes.

    Each message has an id of its own, which is the same when it is sent again."""

    def __init__(self, home: Node, places: list[str], user: str, password: str):
        super().__init__(home, user, password, resource="talker", plugins=("xep_0198",))
        # Every message asks for an acknowledgement, so that a silence is one of the server's.
        self.plugin["xep_0198"].window = self.plugin["xep_0198"].window_counter = 1
        self.places = places
        self.bare = f"{user}@{home.domain}"
        self.unacknowledged: dict[str, tuple[str, str]] = {}
        self.sent: dict[str, str] = {}
        self.acknowledged: set[str] = set()
        self.got: list[str] = []
        self.served = self.heard = time.monotonic()
        self.longest = 0.0
        self.lost = False
        self.negotiations: set[asyncio.Task] = set()
        self.add_event_handler("stanza_acked", self.on_acknowledged)
        self.add_event_handler("sm_enabled", self.on_enabled)

    async def _handle_stream_features(self, features):
        # slixmpp lets a negotiation whose connection is gone wait on, and go on with the answers of the next one.
        task = asyncio.current_task()
        self.negotiations.add(task)
        try:
            return await super()._handle_stream_features(features)
        finally:
            self.negotiations.discard(task)

    def data_received(self, data) -> None:
        self.heard = time.monotonic()
        super().data_received(data)

    def alive(self) -> None:
        """The server did something for us: a silence ends."""
        now = time.monotonic()
        self.longest = max(self.longest, now - self.served)
        self.served = now

    def on_acknowledged(self, stanza) -> None:
        self.alive()
        self.acknowledged.add(stanza["id"])
        self.unacknowledged.pop(stanza["id"], None)

    def on_message(self, message) -> None:
        self.alive()
        if message["body"] and message["type"] != "error":
            self.got.append(message["id"])

    def say(self, to: str) -> None:
        """Write to somebody, now or when there is a session again."""
        name = f"{self.bare.partition('@')[0]}-{len(self.sent)}"
        self.sent[name] = to
        self.unacknowledged[name] = (to, f"message {name}")
        if self.online:
            self.hand_over(name)

    def hand_over(self, name: str) -> None:
        """Give a message to the server."""
        to, body = self.unacknowledged[name]
        message = self.make_message(to, body, mtype="chat")
        message["id"] = name
        message.send()

    def on_session(self, _event) -> None:
        """A new session, which stream management does not count yet."""
        self.sessions += 1
        self.send_presence()

    def on_enabled(self, _event) -> None:
        """Stream management counts: what the old session's server did not acknowledge is sent again."""
        self.online = True
        for name in list(self.unacknowledged):
            self.hand_over(name)

    def on_resumed(self, event) -> None:
        """slixmpp sends again what it had sent; what it had not is ours."""
        self.resumptions += 1
        self.online = True
        counted = {stanza["id"] for _, stanza in self.plugin["xep_0198"].unacked_queue}
        for name in [name for name in self.unacknowledged if name not in counted]:
            self.hand_over(name)

    def connection_lost(self, exception) -> None:
        self.lost = True
        for negotiation in self.negotiations:
            negotiation.cancel()
        while not self.waiting_queue.empty():
            self.waiting_queue.get_nowait()
        super().connection_lost(exception)

    def on_disconnected(self, _reason) -> None:
        """`stay` looks for a node."""
        self.online = False

    async def stay(self) -> None:
        """Be signed in: at the node where we were or were sent to, otherwise at the next."""
        turn = 0
        while self.staying:
            if not self.online:
                where, self.lost = self.place, False
                self.connect(*where)
                await self.within(SIGN_IN, lambda: self.online or self.lost)
                if not self.online:
                    self.cancel_connection_attempt()
                    self.abort()
                    if self.place == where:
                        # Nobody sent us elsewhere.
                        turn += 1
                        self.place = (self.places[turn % len(self.places)], where[1])
                    await asyncio.sleep(0.2)
                self.heard = time.monotonic()
            silence = time.monotonic() - self.heard
            if silence > GIVE_UP:
                self.abort()
                self.online = False
            elif silence > ASK and self.online:
                self.plugin["xep_0198"].request_ack()
            await self.within(0.25, lambda: not self.online)

    async def within(self, seconds: float, look) -> None:
        """Wait until something is so, or the time is over."""
        end = time.monotonic() + seconds
        while not look() and self.staying and time.monotonic() < end:
            await asyncio.sleep(0.02)


class Traffic:
    """People at home at each node of a pair, writing to each other in a thread of its own until the account is settled.

    Who writes to whom and when comes from the seed."""

    def __init__(self, homes: list[Node], people: dict[str, Node], password: str, seed: int):
        self.random = random.Random(seed)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="traffic", daemon=True)
        self.homes, self.people, self.password = homes, people, password
        self.talkers: list[Talker] = []
        self.tasks: list[asyncio.Task] = []
        self.talking = False

    def run(self, coroutine, seconds: float = 120):
        """Do something in the thread, and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(seconds)

    async def begin(self) -> None:
        """Everybody signs in, then the talk begins."""
        addresses = [node.address for node in self.homes]
        for user, home in self.people.items():
            talker = Talker(home, addresses, user, self.password)
            talker.staying = True
            self.talkers.append(talker)
            self.tasks.append(asyncio.ensure_future(talker.stay()))
        await self.until("everybody is signed in", lambda: all(talker.online for talker in self.talkers), 60)
        self.talking = True
        for talker in self.talkers:
            self.tasks.append(asyncio.ensure_future(self.talk(talker)))
        # Everybody has heard something before anything is broken.
        await self.until("everybody hears something", lambda: all(talker.got and talker.acknowledged for talker in self.talkers), 30)
        for talker in self.talkers:
            talker.alive()
            talker.longest, talker.sessions, talker.resumptions = 0.0, 0, 0

    async def talk(self, talker: Talker) -> None:
        """Write to anybody, at a pace that varies by half."""
        while self.talking:
            await asyncio.sleep(PACE * self.random.uniform(0.5, 1.5))
            talker.say(self.random.choice([other.bare for other in self.talkers if other is not talker]))

    async def until(self, what: str, look, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not look():
            if time.monotonic() > end:
                away = [talker.bare for talker in self.talkers if not talker.online]
                raise AssertionError(f"after {seconds} s still not: {what} (not signed in: {away})")
            await asyncio.sleep(0.05)

    async def settle(self, seconds: float) -> Account:
        """End the talk, wait until all is delivered or the time is over, and say what became of it."""
        self.talking = False
        with contextlib.suppress(AssertionError):
            await self.until("all is delivered", self.is_settled, seconds)
        account = Account()
        got = {talker.bare: talker.got for talker in self.talkers}
        for talker in self.talkers:
            account.sent += len(talker.sent)
            account.gaps.append(talker.longest)
            account.resumed += talker.resumptions
            account.begun += talker.sessions
            if not talker.online:
                account.dead.append(talker.bare)
            for name, to in talker.sent.items():
                copies = got[to].count(name)
                account.delivered += copies > 0
                account.duplicated += max(0, copies - 1)
                if copies == 0:
                    (account.lost if name in talker.acknowledged else account.unsent).append(name)
        return account

    def is_settled(self) -> bool:
        got = {talker.bare: set(talker.got) for talker in self.talkers}
        return all(talker.online and not talker.unacknowledged for talker in self.talkers) and all(
            name in got[to] for talker in self.talkers for name, to in talker.sent.items()
        )

    async def end(self) -> None:
        """Everybody leaves."""
        self.talking = False
        for talker in self.talkers:
            talker.staying = False
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for talker in self.talkers:
            with contextlib.suppress(Exception):
                await talker.sign_out()
        # slixmpp leaves its filters running.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@contextlib.contextmanager
def conversation(homes: list[Node], publisher: Node, count: int, seed: int):
    """People at home at each of the nodes in turn, talking; they are deleted when it has ended."""
    tag, password = secrets.token_hex(3), secrets.token_urlsafe(9)
    people = {f"talker{number}-{tag}": homes[number % len(homes)] for number in range(count)}
    rows = "".join(f"{user},{password}\n" for user in people)
    publisher.cli("users", "import", "/dev/stdin", input="user,password\n" + rows)
    for home in homes:
        publisher.cli("users", "assign", home.name, *[user for user, node in people.items() if node is home])
    traffic = Traffic(homes, people, password, seed)
    traffic.thread.start()
    try:
        traffic.run(traffic.begin())
        yield traffic
    finally:
        traffic.run(traffic.end())
        traffic.loop.call_soon_threadsafe(traffic.loop.stop)
        traffic.thread.join(10)
        publisher.attempt_cli("users", "delete", *people)
