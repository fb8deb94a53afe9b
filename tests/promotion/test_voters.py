"""Every node votes: when the publisher loses its power another one is elected and takes changes."""

from __future__ import annotations

import json
import time

from node import eventually
from test_promotion import add, refusal, settled, states, users

GOOD = {"node1": 2, "node2": 2, "node3": 2}


def voters(node) -> dict:
    """Who votes, as a node sees it; nothing while its database starts."""
    shown = node.attempt_cli("utils", "dbreplication", "voters", "status", "--json")
    return json.loads(shown.stdout)["result"] if shown.returncode == 0 else {"nodes": [], "publisher": None}


def votes(node) -> set[str]:
    """The nodes that vote."""
    return {one["name"] for one in voters(node)["nodes"] if one["votes"]}


def test_it_is_shown_before_it_is_done(lab):
    first, second = lab.node("node1"), lab.node("node2")
    eventually("all are good", lambda: settled(second) == GOOD, 90)
    assert len(votes(first)) == 1
    preview = second.cli_json("utils", "dbreplication", "voters", "enable", "--preview")
    assert preview["refusal"] == "" and not preview["enabled"], preview
    assert first.attempt_cli("utils", "dbreplication", "voters", "enable", "--json").returncode != 0
    assert len(votes(first)) == 1
    shown = second.cli("utils", "dbreplication", "voters", "enable", "--yes")
    assert "Every node votes now" in shown, shown
    for node in (first, second):
        eventually("all vote", lambda node=node: votes(node) == set(GOOD), 10)
    assert "already" in refusal(first.attempt_cli("utils", "dbreplication", "voters", "enable", "--yes"))
    assert "majority" in refusal(first.attempt_cli("utils", "dbreplication", "promote", "--yes"))
    assert states(first) == GOOD


def test_another_is_elected_when_the_publisher_loses_its_power(lab):
    nodes = {name: lab.node(name) for name in GOOD}
    lost = voters(nodes["node3"])["publisher"]
    left = [node for name, node in nodes.items() if name != lost]
    before = add(nodes[lost])
    begin = time.monotonic()
    lab.command("kill", lost)
    name = add(left[0])
    print(f"{lost} lost: a user was added {time.monotonic() - begin:.1f} s after that")
    eventually("both have them", lambda: all({before, name} <= users(node) for node in left), 20)
    new = voters(left[0])["publisher"]
    assert new != lost and new == voters(left[1])["publisher"], new
    eventually("it is shown", lambda: f"{new} Publisher" in left[1].cli("show", "network", "cluster"), 20)
    late = add(left[1])
    # It is back by itself, follows, and has everything.
    lab.command("start", lost, seconds=240)
    for node in nodes.values():
        eventually(f"all are good for {node.name}", lambda node=node: settled(node) == GOOD, 90)
    assert {before, name, late} <= users(nodes[lost])
    assert len({voters(node)["publisher"] for node in nodes.values()}) == 1
    again = add(nodes[lost])
    assert all(again in users(node) for node in left)


def test_one_votes_again(lab):
    first = lab.node("node1")
    publisher = voters(first)["publisher"]
    shown = first.cli("utils", "dbreplication", "voters", "disable", "--yes")
    assert f"{publisher} is the publisher and the only voter now" in shown, shown
    eventually("it votes alone", lambda: votes(first) == {publisher}, 10)
    eventually("all are good", lambda: states(first) == GOOD, 30)
    add(lab.node("node3"))
