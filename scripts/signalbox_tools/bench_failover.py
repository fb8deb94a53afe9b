"""`scripts/bench failover`: how long people are away when their node is left or lost.

A pair of nodes in the fast profile; everybody is at home on node 1. Clients have stream management, know both nodes'
addresses, ask every two seconds whether the server is there and connect to the other node after three seconds without an
answer; those with dual connections have an inactive one at the other node already. A gap is the time from the order, or the
loss of power, until a client has a session again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Iterator

from . import lab_state
from .bench_table import seconds
from .cli import CARGO_TARGET, REPOSITORY, HostError, lab, say

PASSWORD = "bench-password"
BACKUP = "Running in Backup Mode"
BATCH = 500
"""Users that one command assigns."""

PATIENCE = 240
"""Seconds that a state may take."""


def administer(node: str, *words: str, **options):
    """What an administrator's command answers, as data."""
    return json.loads(lab("cli", node, "--", *words, "--json", **options))["result"]


@contextlib.contextmanager
def pair(users: int, binary: Path) -> Iterator[dict]:
    """Two nodes with the release build, and everybody at home on the first."""
    subprocess.run([REPOSITORY / "scripts/build-root", "--binary", binary], check=True)
    lab("up", "--nodes", "2")
    try:
        names = [f"load{index}" for index in range(users)]
        rows = "".join(f"{name},{PASSWORD}\n" for name in names)
        lab("cli", "node1", "--", "users", "import", "/dev/stdin", input="user,password\n" + rows)
        for first in range(0, users, BATCH):
            lab("cli", "node1", "--", "users", "assign", "node1", *names[first:first + BATCH])
        yield lab_state.load()
    finally:
        lab("down")


class Clients:
    """The generator with everybody signed in."""

    def __init__(self, state: dict, users: int, rate: int, dual: bool):
        one, two = (node["address"] for node in state["nodes"])
        self.process = subprocess.Popen(
            [
                CARGO_TARGET / "release/signalbox-load", "--host", one, "--domain", state["nodes"][0]["domain"], "--ca", state["ca"],
                "--password", PASSWORD, "--users", str(users), "--concurrency", "64", "failover", "--other", two, "--rate", str(rate), *(["--dual"] if dual else []),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )

    def until(self, wanted: str) -> dict:
        """Follow the generator until it says so."""
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == wanted:
                return event
        raise HostError(f"the load generator ended before {wanted!r}, with status {self.process.wait()}")

    def fault(self) -> None:
        """Time runs from here."""
        self.process.stdin.write("fault\n")
        self.process.stdin.flush()
        self.until("fault")

    def end(self) -> None:
        """Everybody leaves."""
        self.process.stdin.close()
        self.process.wait()


def wait(what: str, look) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(subprocess.CalledProcessError, StopIteration):
            if look():
                return
        if time.monotonic() > deadline:
            raise HostError(f"after {PATIENCE} s still not: {what}")
        time.sleep(0.2)


def state_of(node: str, which: str) -> str:
    """The state of a node as another sees it."""
    nodes = administer(node, "utils", "ha", "status")["nodes"]
    return next(one["state"] for one in nodes if one["name"] == which)


def takeover(begun: float) -> dict:
    """From node 2's history: seconds from a moment to its decision, and from that until it served."""
    found: dict[str, float] = {}
    for event in administer("node2", "utils", "ha", "history")["events"]:
        at = datetime.fromisoformat(event["at"]).timestamp()
        for word, state in (("decided", "Taking Over"), ("served", BACKUP)):
            if at >= begun - 0.01 and event["to"].startswith(state):
                found.setdefault(word, at)
    return {"detection_s": found["decided"] - begun, "takeover_s": found["served"] - found["decided"]} if len(found) == 2 else {}


def measure(users: int, dual: bool, binary: Path, rate: int) -> list[dict]:
    """Failover by hand, fallback and power loss with so many people."""
    rows = []
    kind = "dual" if dual else "plain"

    def row(name: str, clients: Clients, action) -> None:
        # The talk goes on for a moment, so that there is something to lose.
        time.sleep(5)
        clients.fault()
        begun = time.time()
        action()
        back = clients.until("back")
        rows.append({"what": name, "clients": kind, "users": users, **back, **takeover(begun)})
        say(f"  {name}, {users} {kind} clients: gap p50 {seconds(back['p50_s'])} s, p99 {seconds(back['p99_s'])} s, missing {back['missing']} of {back['sent']}")

    with pair(users, binary) as state:
        clients = Clients(state, users, rate, dual)
        try:
            clients.until("online")
            row("failover by hand", clients, lambda: lab("cli", "node1", "--", "utils", "ha", "failover", "node1"))
            wait("node 2 serves everybody", lambda: state_of("node2", "node2").startswith(BACKUP))
            row("fallback by hand", clients, lambda: lab("cli", "node1", "--", "utils", "ha", "fallback", "node1"))
            wait("both are in order", lambda: {state_of("node2", name) for name in ("node1", "node2")} == {"Normal"})
            row("power loss", clients, lambda: lab("kill", "node1"))
        finally:
            clients.end()
    return rows


def run(options: argparse.Namespace, binary: Path) -> dict:
    """All rows."""
    rows = [row for users in options.users for dual in (False, True) for row in measure(users, dual, binary, options.rate)]
    return {"rows": rows, "rate": options.rate}
