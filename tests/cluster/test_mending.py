"""Replicas are compared, repaired, stopped, and begin anew, by `utils dbreplication`."""

from __future__ import annotations

import secrets
import time

import pytest
from node import eventually
from test_cluster import GOOD, states


@pytest.fixture
def good(publisher):
    """Every node is good before and after."""
    eventually("state 2 everywhere", lambda: states(publisher) == GOOD, 60)
    yield
    eventually("state 2 everywhere", lambda: states(publisher) == GOOD, 60)


def named(answer: dict) -> dict[str, dict]:
    """What each node answered."""
    return {node["node"]: node for node in answer["nodes"]}


def add(node) -> str:
    """A new user's name."""
    name = f"late-{secrets.token_hex(3)}"
    node.cli("users", "add", name, "--password", secrets.token_urlsafe(9))
    return name


def test_an_audit_tells_that_all_tables_are_equal(good, publisher, subscriber):
    for node in (publisher, subscriber):
        audit = named(node.cli_json("utils", "dbreplication", "quickaudit", "all"))
        assert set(audit) == {"node2", "node3"}
        for found in audit.values():
            assert found["same_place"] and found["tables"] and all(table["equal"] for table in found["tables"]), found
    shown = publisher.cli("utils", "dbreplication", "quickaudit", "node2")
    assert "tables are equal to the publisher's, at entry" in shown


def test_the_publisher_and_strangers_are_refused(publisher, subscriber):
    for node in (publisher, subscriber):
        refused = node.attempt_cli("utils", "dbreplication", "repair", "node1", "--yes")
        assert refused.returncode != 0 and "is the publisher" in refused.stderr + refused.stdout
    refused = publisher.attempt_cli("utils", "dbreplication", "reset", "nobody", "--yes")
    assert refused.returncode != 0 and "show network cluster" in refused.stderr + refused.stdout
    refused = publisher.attempt_cli("utils", "dbreplication", "repairtable", "nonsense", "node2", "--yes")
    assert refused.returncode != 0 and "end_user" in refused.stderr + refused.stdout


def test_a_node_that_was_stopped_gets_older_says_so_and_is_repaired(good, publisher, subscriber):
    # Without an answer nothing happens.
    assert publisher.attempt_cli("utils", "dbreplication", "stop", "node2", "--json").returncode != 0
    assert states(publisher)["node2"] == 2
    publisher.cli("utils", "dbreplication", "stop", "node2", "--yes")
    eventually("it is told", lambda: states(publisher)["node2"] == 0, 20)
    status = subscriber.cli("utils", "dbreplication", "status")
    assert "was stopped" in status and "admin" in status, status
    alarms = subscriber.cli("alarms", "list")
    assert "DBReplicationStopped" in alarms, alarms
    begin = time.monotonic()
    names = [add(publisher) for _ in range(3)]
    assert time.monotonic() - begin < 20
    # Its database starts again and is still stopped.
    subscriber.run("systemctl", "restart", "database")
    eventually("it answers", lambda: subscriber.attempt_cli("users", "list").returncode == 0, 30)
    assert not set(names) & set(subscriber.cli("users", "list").split())
    preview = publisher.cli_json("utils", "dbreplication", "repair", "node2", "--preview")
    found = named(preview)["node2"]
    users = next(table for table in found["tables"] if table["table"] == "end_user")
    assert not found["same_place"] and users["missing"] == 3 and users["extra"] == 0, found
    assert "may only be late" in publisher.cli("utils", "dbreplication", "repair", "node2", "--preview")
    assert not set(names) & set(subscriber.cli("users", "list").split())
    repaired = publisher.cli("utils", "dbreplication", "repair", "node2", "--yes")
    assert "started again" in repaired, repaired
    assert set(names) <= set(subscriber.cli("users", "list").split())
    eventually("the alarm is gone", lambda: "DBReplicationStopped" not in subscriber.cli("alarms", "list"), 20)
    publisher.cli("users", "delete", *names)


def test_tables_are_taken_over_while_services_run(good, publisher, subscriber):
    before = subscriber.running()
    taken = named(publisher.cli_json("utils", "dbreplication", "forcedatasyncsub", "node2", "--yes"))
    assert "end_user" in taken["node2"]["tables"], taken
    nothing = subscriber.cli("utils", "dbreplication", "repairtable", "end_user", "node2", "--yes")
    assert "No table of node2 differs" in nothing, nothing
    name = add(publisher)
    eventually("it is there", lambda: name in subscriber.cli("users", "list"), 10)
    assert subscriber.running() == before
    publisher.cli("users", "delete", name)


def test_a_node_that_is_reset_takes_everything_again(good, publisher, subscriber):
    name = add(publisher)
    before = subscriber.main_pid("database")
    shown = publisher.cli("utils", "dbreplication", "reset", "node2", "--yes")
    assert "starts again" in shown, shown
    eventually("it starts again", lambda: subscriber.main_pid("database") not in (0, before), 30)
    # Until it has everything it says that it has not, and never less than everything.
    eventually("it is there again", lambda: name in subscriber.attempt_cli("users", "list").stdout, 60)
    eventually("it is good again", lambda: states(publisher) == GOOD, 60)
    # What was written there is written by the publisher, as before.
    subscriber.cli("users", "delete", name)
    assert name not in publisher.cli("users", "list")
    subscriber.settle()
    audit = named(subscriber.cli_json("utils", "dbreplication", "quickaudit", "node2"))
    assert all(table["equal"] for table in audit["node2"]["tables"])


def test_the_timeout_is_a_parameter_of_all_nodes(publisher, subscriber):
    assert "Repltimeout set to: 300s" in publisher.cli("utils", "dbreplication", "runtimestate")
    publisher.cli("utils", "dbreplication", "setrepltimeout", "900")
    look = lambda: "Repltimeout set to: 900s" in subscriber.cli("utils", "dbreplication", "runtimestate")  # noqa: E731
    eventually("it is known", look, 10)
    refused = publisher.attempt_cli("utils", "dbreplication", "setrepltimeout", "20")
    assert refused.returncode != 0 and "from 300 to 3600" in refused.stderr + refused.stdout
    publisher.cli("utils", "dbreplication", "setrepltimeout", "300")
