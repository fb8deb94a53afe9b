"""Failover in the lab: high availability of each pair of nodes, in the fast profile, and waiting until all is in order."""

from __future__ import annotations

import json
import time

from . import lab_services
from .cli import HostError, say
from .lab_state import Node


def administer(one: Node, *words: str) -> dict:
    """What an administrator's command answers on a node."""
    answer = lab_services.inside(one, "/usr/bin/signalbox", "cli", *words, "--json", "--yes")
    try:
        return json.loads(answer or "")["result"]
    except (json.JSONDecodeError, KeyError):
        raise HostError(f"{one.name} did not do this: {' '.join(words)}\nSee: scripts/lab cli {one.name} -- {' '.join(words)}") from None


def enable(publisher: Node) -> None:
    """Switch high availability on for each group of two nodes, in the fast profile."""
    administer(publisher, "set", "parameter", "server-recovery-manager", "Keep Alive Profile", "fast")
    for group in administer(publisher, "groups", "list")["groups"]:
        if len(group["nodes"]) == 2:
            administer(publisher, "utils", "ha", "enable", group["name"])


def disorder(one: Node) -> str:
    """Which node of the group is not Normal, seen from one of them; empty when both are."""
    try:
        status = administer(one, "utils", "ha", "status")
    except HostError:
        return "it does not tell the state of its group"
    if not status["high_availability"]:
        return "" if len(status["nodes"]) == 1 else "high availability is off"
    return ", ".join(f"{node['name']} is {node['state']} ({node['reason']})" for node in status["nodes"] if node["state"] != "Normal")


def wait(nodes: list[Node], seconds: float) -> None:
    """Wait until each node sees its group in order."""
    deadline = time.monotonic() + seconds
    for one in nodes:
        while why := disorder(one):
            if time.monotonic() > deadline:
                raise HostError(f"a redundancy group is not in order, seen from {one.name}: {why}\nSee: scripts/lab cli {one.name} -- utils ha history")
            time.sleep(lab_services.STEP)
    say("every redundancy group is Normal / Normal")
