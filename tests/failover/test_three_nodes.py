"""Failover of a pair when a third node of the cluster can be asked."""

from __future__ import annotations

from node import eventually
from pair import BACKUP, BY_HAND, NORMAL, SILENT

NODES = 3


def test_power_loss(pair):
    """Row 16."""
    with pair.scenario("power loss, a third node agrees", pair.two):
        pair.lab.command("kill", "node1")
        pair.until(pair.two, SILENT, (BACKUP, "Peer Down"))


def test_a_cut_link_moves_nobody_while_a_third_node_hears_both(pair):
    before = {node.name: len(pair.events(node)) for node in (pair.one, pair.two)}
    pair.lab.command("cut", "node1", "node2")
    pair.until(pair.one, NORMAL, SILENT)
    pair.until(pair.two, SILENT, NORMAL)
    alarms = eventually("it is an alarm", lambda: [one for one in pair.two.cli_json("alarms", "list")["alarms"] if one["id"] == "SRMPeerSilent"], 10)
    assert "a third node hears it" in alarms[0]["text"]
    pair.lab.command("heal")
    pair.normal()
    for node in (pair.one, pair.two):
        assert not any("Taking Over" in event["to"] for event in pair.events(node)[before[node.name]:])


def test_a_node_that_is_cut_off_is_taken_over_and_takes_nobody_over(pair):
    for other in ("node1", "node3"):
        pair.lab.command("cut", "node2", other)
    pair.until(pair.one, (BACKUP, "Peer Down"), SILENT)
    assert pair.states(pair.two) == (SILENT, NORMAL)
    assert pair.serves(pair.two, pair.two) == ["node2"]
    pair.lab.command("heal")
    eventually("the higher epoch counts", lambda: pair.serves(pair.two, pair.two) == [], 30)


def test_any_node_of_the_cluster_asks_and_orders(pair):
    third = pair.lab.node("node3")
    shown = third.cli("utils", "ha", "status", "node1")
    assert "Node 1 Name : node1 State: Normal\nNode 2 Name : node2 State: Normal\n" in shown
    third.cli("utils", "ha", "failover", "node2")
    pair.until(pair.one, (BACKUP, BY_HAND), ("Idle", BY_HAND))
    third.cli("utils", "ha", "fallback", "node2")
    pair.normal()
    assert "An administrator asked for it." in third.cli("utils", "ha", "history", "node2")
