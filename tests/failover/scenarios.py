"""What can break in a pair while people talk, and the account of it."""

from __future__ import annotations

import contextlib
import time

from clock import own_clock, set_clock
from node import eventually
from pair import BACKUP, BY_HAND, FAILED_OVER, NORMAL, SILENT
from traffic import conversation

PEOPLE = 8
SETTLE = 60
"""Seconds within which what is on its way must have arrived in the end."""


def ends(service: str):
    """A service's process is ended, and comes back by itself."""
    def scenario(pair) -> None:
        pair.one.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", service)
        pair.one.settle()
    return scenario


def hangs(service: str):
    """A service's process hangs, until its watchdog ends it."""
    def scenario(pair) -> None:
        before = pair.one.main_pid(service)
        pair.one.run("kill", "-STOP", str(before))
        eventually("the watchdog ended it", lambda: pair.one.main_pid(service) not in (0, before), 90)
        pair.one.settle()
        pair.restore()
    return scenario


def by_hand(pair) -> None:
    """An administrator moves everybody away, and back."""
    pair.one.cli("utils", "ha", "failover", "node1")
    pair.until(pair.two, ("Idle", BY_HAND), (BACKUP, BY_HAND))
    time.sleep(3)
    pair.one.cli("utils", "ha", "fallback", "node1")
    pair.normal()


def power_loss(pair) -> None:
    """A node is gone at once, comes back, and gets its people back."""
    pair.lab.command("kill", "node1")
    pair.until(pair.two, SILENT, (BACKUP, "Peer Down"))
    time.sleep(5)
    pair.lab.command("start", "node1", seconds=240)
    eventually("it is back", lambda: (seen := pair.try_states(pair.one)) and seen[0][0] == FAILED_OVER, 60)
    pair.one.cli("utils", "ha", "fallback", "node1")
    pair.normal()


def shutdown(pair) -> None:
    """A node is shut down in order, and started again."""
    pair.lab.command("stop", "node1")
    pair.until(pair.two, SILENT, (BACKUP, "Peer Reboot"), 20)
    pair.lab.command("start", "node1", seconds=240)
    pair.restore()


def cut(*ways: tuple[str, str], one_way: bool = False):
    """Nothing passes between the nodes for a while; people reach both."""
    def scenario(pair) -> None:
        for first, second in ways:
            pair.lab.command("cut", first, second, *(["--one-way"] if one_way else []))
        time.sleep(8)
        pair.lab.command("heal")
        pair.restore()
    return scenario


def full_disk(pair) -> None:
    """Nothing more can be written on a node for a while."""
    filler = "/var/lib/filler"
    try:
        # Until nothing is left, and again what is freed meanwhile.
        for _ in range(8):
            pair.one.attempt("sh", "-c", f"cat /dev/zero >> {filler}")
            time.sleep(1)
    finally:
        pair.one.run("rm", "-f", filler)
    pair.one.settle(120)
    pair.restore()


def clock_jump(pair) -> None:
    """A node's clock is an hour ahead for a while: nobody else's concern."""
    before = len(pair.events(pair.one))
    for seconds in (3600, 0):
        set_clock(pair.one, seconds)
        time.sleep(10)
        assert pair.states(pair.one) == pair.states(pair.two) == (NORMAL, NORMAL)
    assert pair.events(pair.one)[before:] == [], "the states never changed"


SCENARIOS = {
    "kill -9 of the router": ends("xmpp-router"),
    "kill -9 of the connection manager": ends("xmpp-connection-manager"),
    "kill -9 of the recovery manager": ends("server-recovery-manager"),
    "kill -9 of the database": ends("database"),
    "the router hangs": hangs("xmpp-router"),
    "failover and fallback by hand": by_hand,
    "power loss": power_loss,
    "shutdown in order": shutdown,
    "full disk": full_disk,
    "cut link": cut(("node1", "node2")),
    "cut from the publisher to the subscriber": cut(("node1", "node2"), one_way=True),
    "cut from the subscriber to the publisher": cut(("node2", "node1"), one_way=True),
    "the clock jumps by an hour, and back": clock_jump,
}

AROUND = {clock_jump: own_clock}
"""What node 1 must be given for a scenario, before anybody talks."""


def run(pair, seed: int, name: str) -> None:
    """Nothing that the server acknowledged is lost, and nobody is left without a server."""
    action = SCENARIOS[name]
    with AROUND.get(action, contextlib.nullcontext)(pair.one):
        pair.restore()
        with conversation([pair.one, pair.two], pair.one, PEOPLE, seed) as traffic:
            with pair.scenario(f"{name}, seed {seed}", pair.two) as line:
                action(pair)
            account = traffic.run(traffic.settle(SETTLE), SETTLE + 30)
            line.account = account
            assert account.lost == [], account
            assert account.unsent == [], account
            assert account.dead == [], account
        assert pair.states(pair.two) == (NORMAL, NORMAL)
