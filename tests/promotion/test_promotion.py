"""A subscriber is promoted by hand; the old publisher comes back and is refused until it is reset."""

from __future__ import annotations

import json
import secrets

from node import eventually


def states(node) -> dict[str, int]:
    """State of replication of each node, as one of them sees it."""
    return {one["name"]: one["state"] for one in node.cli_json("utils", "dbreplication", "runtimestate")["nodes"]}


def settled(node) -> dict[str, int]:
    """The same; nothing while its database starts."""
    shown = node.attempt_cli("utils", "dbreplication", "runtimestate", "--json")
    nodes = json.loads(shown.stdout)["result"]["nodes"] if shown.returncode == 0 else []
    return {one["name"]: one["state"] for one in nodes}


def add(node) -> str:
    """A new user's name."""
    name = f"person-{secrets.token_hex(3)}"
    node.cli("users", "add", name, "--password", secrets.token_urlsafe(9))
    return name


def users(node) -> set[str]:
    """The users that a node knows."""
    return set(node.cli("users", "list").split())


def refusal(done) -> str:
    """What a command that was refused said."""
    assert done.returncode != 0, done.stdout
    return done.stderr + done.stdout


def test_the_log_goes_on_without_the_publisher(lab):
    first, second, third = (lab.node(name) for name in ("node1", "node2", "node3"))
    before = add(first)
    eventually("it is there", lambda: before in users(second), 10)
    assert "answers" in refusal(second.attempt_cli("utils", "dbreplication", "promote", "--yes"))
    assert "already" in refusal(first.attempt_cli("utils", "dbreplication", "promote", "--yes"))
    lab.command("kill", "node1")
    preview = second.cli_json("utils", "dbreplication", "promote", "--preview")
    lost = preview["publisher"]
    assert lost["name"] == "node1" and lost["heard"] and lost["last_log"] <= preview["last_log"], preview
    assert [one["name"] for one in preview["others"]] == ["node3"] and not preview["refusal"], preview
    # Shown, and not done.
    assert "node1" in refusal(second.attempt_cli("users", "add", "nobody", "--password", "some-password"))
    processes = {node.name: node.main_pid("database") for node in (second, third)}
    shown = second.cli("utils", "dbreplication", "promote", "--yes")
    assert "starts again as the publisher" in shown, shown
    for node in (second, third):
        anew = lambda node=node: node.main_pid("database") not in (0, processes[node.name])  # noqa: E731
        eventually(f"the database of {node.name} starts again", anew, 30)
        eventually("both are good", lambda node=node: settled(node) == {"node2": 2, "node3": 2}, 60)
    name = add(third)
    assert {before, name} <= users(second) and {before, name} <= users(third)
    assert "Primary Node =true" in second.cli("utils", "service", "list")
    assert "Primary Node =false" in third.cli("utils", "service", "list")
    cluster = third.cli("show", "network", "cluster").splitlines()
    assert cluster[0].split()[2:4] == ["node2", "Publisher"], cluster


def test_the_old_publisher_is_refused_and_says_what_to_do(lab):
    first, second = lab.node("node1"), lab.node("node2")
    # Its services wait at the gate, for good reason.
    lab.attempt("start", "node1", "--patience", "20", seconds=240)
    eventually("it has heard", lambda: first.cli_json("utils", "dbreplication", "status")["state"] == 4, 60)
    assert "utils dbreplication reset" in first.cli("utils", "dbreplication", "status")
    text = refusal(first.attempt_cli("users", "add", "nobody", "--password", "some-password"))
    assert "utils dbreplication reset" in text, text
    name = add(second)
    assert name not in users(first) and "nobody" not in users(second)


def test_reset_it_is_a_subscriber_like_another(lab):
    first, second = lab.node("node1"), lab.node("node2")
    second.cli("utils", "dbreplication", "reset", "node1", "--yes")
    expected = {"node1": 2, "node2": 2, "node3": 2}
    eventually("all are good", lambda: states(second) == expected, 90)
    first.settle(90)
    assert users(first) == users(second)
    name = add(first)
    assert name in users(second)
    # It stays so when it starts again.
    lab.command("kill", "node1")
    lab.command("start", "node1", seconds=240)
    eventually("all are good", lambda: states(second) == expected, 60)
    assert name in users(first)
