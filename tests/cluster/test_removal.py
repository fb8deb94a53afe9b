"""The last file: node3 is out of the cluster after it."""

from __future__ import annotations

import secrets

from node import eventually
from test_cluster import states


def test_a_node_that_was_removed_gets_nothing_and_says_so(lab, publisher):
    third = lab.node("node3")
    publisher.cli("unset", "network", "cluster", "subscriber", "node3", "--yes")
    eventually("it is refused", lambda: third.cli_json("utils", "dbreplication", "status")["state"] == 4, 30)
    assert "was removed" in third.cli("utils", "dbreplication", "status")
    name = f"later-{secrets.token_hex(3)}"
    publisher.cli("users", "add", name, "--password", secrets.token_urlsafe(9))
    lab.command("kill", "node3")
    lab.attempt("start", "node3", "--patience", "20")
    refused = third.attempt_cli("users", "add", "nobody", "--password", "some-password")
    assert refused.returncode != 0 and "not a member" in refused.stderr + refused.stdout
    assert name not in third.cli("users", "list")
    assert set(states(publisher)) == {"node1", "node2"}
    publisher.cli("users", "delete", name)
