"""What the services of a node are doing, and waiting until they do it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import lab_node
from .cli import ROOT, HostError, say
from .lab_state import Node

UNITS = ROOT / "usr/lib/systemd/system"

STEP = 0.3
"""Seconds between two looks."""

QUIET = 5.0
"""Seconds without news after which a person is told what is waited for."""


@dataclass(frozen=True)
class Service:
    """One service as the node's supervisor sees it, or, before that one answers, systemd."""

    id: str
    state: str
    kind: str
    activated: bool
    reason: str
    compat: str

    @property
    def expected(self) -> bool:
        """Whether this service must be up before the node counts as up. On a node that was failed over by hand the critical
        services are down until the fallback."""
        if self.state == "STOPPED" and "was failed over" in self.reason:
            return False
        return self.kind != "feature" or self.activated

    @property
    def up(self) -> bool:
        """Whether it serves."""
        return self.state == "STARTED"

    def as_json(self) -> dict:
        """For `status --json`."""
        return {
            "id": self.id, "compat": self.compat, "kind": self.kind, "state": self.state,
            "activated": self.activated, "reason": self.reason,
        }


def inside(one: Node, *words: str, seconds: float = 20) -> str | None:
    """What one of our own fixed commands prints inside the node; None when it fails or the node is not that far."""
    try:
        done = subprocess.run(
            [*lab_node.enter(one), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=seconds, check=False,
        )
    except (HostError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def set_up(one: Node) -> bool:
    """Whether the first-boot setup has finished."""
    return (one.etc / "signalbox/node.toml").exists()


def has_signalbox() -> bool:
    """Whether the root carries our services at all, or is bare Debian."""
    return (UNITS / "signalbox-platform.target").exists()


LIST = ("/usr/bin/signalbox", "cli", "utils", "service", "list", "--json")
"""Asks a node for its services."""


def of_supervisor(one: Node) -> list[Service] | None:
    """The supervisor's own list; None while it does not answer."""
    return parse(inside(one, *LIST))


def parse(listed: str | None) -> list[Service] | None:
    """The supervisor's list from what the command line printed."""
    try:
        rows = json.loads(listed or "")["result"]["services"]
    except (json.JSONDecodeError, KeyError):
        return None
    return [
        Service(row["id"], row["state"], row["kind"], row["activated"], row["reason"], row["compat"]) for row in rows
    ]


STATES = {"active": "STARTED", "activating": "STARTING", "reloading": "STARTED", "deactivating": "STOPPING"}


def of_systemd(one: Node) -> list[Service]:
    """What systemd knows of our services, or of all of them when the root is bare Debian: for the time before the
    supervisor answers."""
    names = sorted(path.name for path in UNITS.glob("*.service") if "[X-Signalbox]" in path.read_text())
    shown = inside(one, "systemctl", "show", "--property=Id,ActiveState,Job,StatusText,Result", *(names or ["*.service"])) or ""
    found = []
    for block in shown.strip().split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if "Id" not in unit:
            continue
        state, reason = STATES.get(unit["ActiveState"], "STOPPED"), unit["StatusText"]
        if state == "STOPPED" and unit["Job"]:
            state, reason = "STARTING", "waits for other units"
        elif unit["ActiveState"] == "failed":
            reason = f"failed: {unit['Result']}"
        # Without the supervisor nobody knows what is activated; what is down and not wanted counts for nothing.
        found.append(Service(unit["Id"].removesuffix(".service"), state, "feature", state != "STOPPED", reason, ""))
    return found


def services(one: Node) -> list[Service]:
    """The node's services, by the best source that answers."""
    return of_supervisor(one) or of_systemd(one)


def phase(one: Node) -> tuple[str, list[Service]]:
    """Where the node is on its way up: `booting`, `setting up`, `starting` or `up`, and its services."""
    if lab_node.leader(one) is None:
        return "not running", []
    state = (inside(one, "systemctl", "is-system-running") or "").strip()
    bare = not has_signalbox()
    if bare:
        # `is-system-running` fails for everything but `running`.
        return ("up" if state == "running" else "booting"), of_systemd(one)
    if not set_up(one):
        return "setting up", of_systemd(one)
    listed = of_supervisor(one)
    if listed is None:
        return "starting", of_systemd(one)
    return ("up" if all(service.up for service in listed if service.expected) else "starting"), listed


def replication(one: Node) -> str:
    """Why replication of a node is not good; empty when it is."""
    shown = inside(one, "/usr/bin/signalbox", "cli", "utils", "dbreplication", "status", "--json")
    try:
        found = json.loads(shown or "")["result"]
    except (json.JSONDecodeError, KeyError):
        return "it does not tell the state of replication"
    waiting = [f"{node['name']} in state {node['state']}" for node in found["nodes"] if node["state"] != 2]
    return ", ".join(waiting)


def wait_replication(nodes: list[Node], seconds: float) -> None:
    """Wait until every node sees every node in state 2."""
    deadline = time.monotonic() + seconds
    for one in nodes:
        while why := replication(one):
            if time.monotonic() > deadline:
                raise HostError(f"replication is not good, seen from {one.name}: {why}\nSee: scripts/lab cli {one.name} -- utils dbreplication runtimestate")
            time.sleep(STEP)
    say(f"replication is good on {len(nodes)} nodes")


class Progress:
    """Tells a person, line by line, what has come up, and now and then what is waited for."""

    def __init__(self, one: Node, clock: Callable[[], float] = time.monotonic):
        self.one = one
        self.clock = clock
        self.begin = self.spoken = clock()
        self.news: dict[str, tuple[tuple[str, str], float]] = {}
        """State and reason of each service, and since when."""
        self.told: dict[str, tuple[str, str]] = {}
        """What was said last of each service that waits."""
        self.phase = ""

    def line(self, text: str) -> None:
        """One line with the node's name and the seconds since the start."""
        self.spoken = self.clock()
        say(f"{self.one.name} {self.spoken - self.begin:6.1f} s  {text}")

    def show(self, phase: str, listed: list[Service]) -> None:
        """Print what is new: services that came up, in one line; when there was nothing to say for QUIET seconds, the one that
        has waited longest for the same reason, once for each reason."""
        now = self.clock()
        if phase != self.phase:
            self.phase = phase
            self.line(phase)
        if phase in ("not running", "booting"):
            return
        expected = [service for service in listed if service.expected]
        # What was up at the first look at a node that is up is no news.
        silent = phase == "up" and not self.news
        risen = []
        for service in expected:
            before, since = self.news.get(service.id, (("", ""), now))
            state = (service.state, service.reason)
            if service.up and before[0] != service.state:
                risen.append(service.id)
            self.news[service.id] = (state, since if state == before else now)
        if risen and not silent:
            self.line(f"  up     {', '.join(risen)}")
        late = [service for service in expected if not service.up and self.told.get(service.id) != (service.state, service.reason)]
        if late and now - self.spoken >= QUIET:
            longest = min(late, key=lambda service: self.news[service.id][1])
            self.told[longest.id] = (longest.state, longest.reason)
            self.line(f"  waits  {longest.id}, {longest.state}" + (f": {longest.reason}" if longest.reason else ""))


def wait(nodes: list[Node], seconds: float) -> None:
    """Wait until every expected service of every node is up, and say what is going on meanwhile."""
    deadline = time.monotonic() + seconds
    watching = {one: Progress(one) for one in nodes}
    last: dict[Node, list[Service]] = {}
    while watching:
        for one, progress in list(watching.items()):
            where, listed = phase(one)
            progress.show(where, listed)
            last[one] = listed
            if where == "up":
                progress.line(f"all {sum(service.expected for service in listed)} services are up")
                del watching[one]
            elif where == "not running":
                raise HostError(f"{one.name} went down. Its console says:\n{lab_node.tail(one.console)}")
        if watching and time.monotonic() > deadline:
            raise HostError("\n".join(complaint(one, last[one], seconds) for one in watching))
        if watching:
            time.sleep(STEP)


def complaint(one: Node, listed: list[Service], seconds: float) -> str:
    """What is not up, and where to look."""
    late = [service for service in listed if service.expected and not service.up]
    lines = [f"  {service.state:<9} {service.id}" + (f": {service.reason}" if service.reason else "") for service in late]
    return "\n".join([
        f"{one.name} is not up after {seconds:.0f} s:", *lines,
        f"See: scripts/lab logs {one.name}",
    ])
