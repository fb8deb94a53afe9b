"""Redundancy groups, and users' home nodes."""

from __future__ import annotations

import secrets

import pytest
from node import eventually, online, scene

BOTH = "DefaultCluster"


def groups(node) -> dict[str, list[str]]:
    """The nodes of each group."""
    return {one["name"]: [member["name"] for member in one["nodes"]] for one in node.cli_json("groups", "list")["groups"]}


def homes(node, users: list[str]) -> dict[str, str]:
    """The home node of each of these users, as a node knows it; empty for none."""
    return {one["user"]: one["node"] for one in node.cli_json("users", "list")["users"] if one["user"] in users}


@pytest.fixture(scope="module", autouse=True)
def without_availability(lab):
    """A group with high availability on is not changed; the tests here change groups."""
    publisher = lab.node("node1")
    publisher.cli("utils", "ha", "disable", BOTH, "--yes")
    yield
    publisher.cli("utils", "ha", "enable", BOTH, "--yes")


@pytest.fixture
def many(publisher):
    """A hundred users, imported at once; removed afterwards."""
    prefix = f"many-{secrets.token_hex(3)}"
    names = [f"{prefix}-{number}" for number in range(100)]
    rows = "".join(f"{name},{secrets.token_urlsafe(9)}\n" for name in names)
    publisher.cli("users", "import", "/dev/stdin", input="user,password\n" + rows)
    yield names
    publisher.attempt_cli("users", "delete", *names)


def test_nodes_that_join_make_pairs(lab, publisher):
    expected = {BOTH: ["node1", "node2"], "node3": ["node3"]}
    for name in ("node1", "node2", "node3"):
        eventually("each node knows the groups", lambda: groups(lab.node(name)) == expected, 10)
    members = [member for one in publisher.cli_json("groups", "list")["groups"] for member in one["nodes"]]
    assert all(member["joined"] for member in members)


def test_an_import_is_spread_over_the_nodes_and_keys_stay(publisher, subscriber, many, person):
    def spread():
        found = list(homes(subscriber, many).values())
        return len(found) == 100 and "" not in found and found
    found = eventually("each has a home", spread, 30)
    assert {found.count(name) for name in ("node1", "node2", "node3")} <= set(range(25, 43)), found


@scene()
async def test_a_person_who_was_assigned_and_moved_signs_in(publisher, person):
    eventually("the person has a home", lambda: homes(publisher, [person.user])[person.user], 10)
    for node in ("node1", "node2"):
        publisher.cli("users", "assign", node, person.user)
        assert homes(publisher, [person.user]) == {person.user: node}
    publisher.cli("users", "assign", "node1", person.user)
    async with online(person.slix()):
        pass


def test_a_balance_is_shown_first_and_moves_in_batches(publisher, subscriber, many):
    eventually("each has a home", lambda: "" not in homes(publisher, many).values(), 30)
    publisher.cli("users", "assign", "node3", *many)
    plan = publisher.cli_json("users", "rebalance", "--preview")
    assert plan["moves"] > 50
    assert set(homes(publisher, many).values()) == {"node3"}
    refused = publisher.attempt_cli("users", "rebalance", "--json")
    assert refused.returncode != 0 and "not confirmed" in refused.stdout
    shown = publisher.cli("users", "rebalance", "--batch", "40", "--pause", "0", "--yes")
    assert shown.startswith("40 of ") and shown.endswith("users have moved.\n")
    assert publisher.cli("users", "rebalance") == "Nobody has to move.\n"
    there = list(homes(publisher, many).values())
    eventually("a subscriber knows it", lambda: list(homes(subscriber, many).values()) == there, 10)


def test_the_mode_decides_who_gets_users(publisher, subscriber):
    # A change that a subscriber is asked for is made by the publisher.
    subscriber.cli("set", "user-assignment", "mode", "none")
    name = f"waits-{secrets.token_hex(3)}"
    try:
        eventually("the publisher knows", lambda: "none" in publisher.cli("show", "user-assignment", "mode"), 10)
        publisher.cli("users", "add", name, "--password", secrets.token_urlsafe(9))
        assert homes(publisher, [name]) == {name: ""}
        publisher.cli("set", "user-assignment", "mode", "active-standby")
        home = eventually("there is a home", lambda: homes(publisher, [name])[name], 10)
        assert home in ("node1", "node3")
    finally:
        publisher.cli("set", "user-assignment", "mode", "balanced")
        publisher.cli("users", "delete", name)


def test_a_group_is_changed_and_what_it_loses_has_one_of_its_own(publisher):
    try:
        publisher.cli("groups", "change", BOTH, "--second", "node3", "--description", "First floor")
        assert groups(publisher) == {BOTH: ["node1", "node3"], "node2": ["node2"]}
        refused = publisher.attempt_cli("groups", "delete", "node2")
        assert refused.returncode != 0 and "would be in no group" in refused.stdout + refused.stderr
        refused = publisher.attempt_cli("groups", "add", "a%b", "node2")
        assert refused.returncode != 0 and "'%'" in refused.stdout + refused.stderr
    finally:
        publisher.cli("groups", "change", BOTH, "--second", "node2")
    assert groups(publisher) == {BOTH: ["node1", "node2"], "node3": ["node3"]}


def test_high_availability_says_first_what_will_happen(publisher, subscriber):
    refused = publisher.attempt_cli("utils", "ha", "enable", "node3")
    assert refused.returncode != 0 and "needs two" in refused.stdout + refused.stderr

    def preview() -> dict:
        return publisher.cli_json("utils", "ha", "enable", BOTH, "--preview")

    good = [{"name": name, "down": [], "replication": 2} for name in ("node1", "node2")]
    seen = eventually("both are fit", lambda: (now := preview())["nodes"] == good and now, 10)
    assert seen["outcome"]["kind"] == "normal" and not seen["already"]
    subscriber.cli("utils", "service", "stop", "xmpp-router")
    try:
        # The other node's services are seen, too, by way of its recovery manager.
        seen = eventually("it is seen", lambda: (now := preview())["nodes"][1]["down"] and now, 10)
        assert "Cisco XCP Router" in seen["nodes"][1]["down"]
        assert seen["outcome"] == {"kind": "fails-over", "nodes": "node2"}
    finally:
        # Its dependants stopped with it; a start of it does not start them.
        for service in ("xmpp-router", "authentication-service", "xmpp-connection-manager"):
            subscriber.cli("utils", "service", "start", service)
        subscriber.settle()
