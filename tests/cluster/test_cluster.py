"""A publisher and its subscribers keep one configuration."""

from __future__ import annotations

import secrets
import time

import pytest
from node import Person, eventually, online, scene


def states(node) -> dict[str, int]:
    """State of replication of each node, as one of them sees it."""
    return {one["name"]: one["state"] for one in node.cli_json("utils", "dbreplication", "runtimestate")["nodes"]}


GOOD = {"node1": 2, "node2": 2, "node3": 2}


def test_every_node_sees_every_node_in_state_2(lab):
    for name in GOOD:
        assert states(lab.node(name)) == GOOD
        shown = lab.node(name).cli("utils", "dbreplication", "runtimestate")
        assert "(3 Servers)" in shown and shown.count("(2) Setup Completed") == 3
        assert shown.count("Y/Y/Y") == 3
        # What was measured to each of the others.
        nodes = lab.node(name).cli_json("utils", "dbreplication", "runtimestate")["nodes"]
        assert all((one["ping"] is None) == (one["name"] == name) for one in nodes)
        assert all(one["ping"] > 0 for one in nodes if one["name"] != name)


def test_show_network_cluster_lists_the_nodes(publisher, subscriber):
    for node in (publisher, subscriber):
        lines = node.cli("show", "network", "cluster").splitlines()
        first, second = lines[0].split(), lines[1].split()
        assert first[0] == publisher.address and first[2:4] == ["node1", "Publisher"] and first[5] == "DBPub"
        assert second[0] == subscriber.address and second[2:4] == ["node2", "Subscriber"] and second[5] == "DBSub"
        assert second[6] == "authenticated"


def test_what_is_added_on_the_publisher_is_read_on_a_subscriber(person, subscriber):
    eventually("it is there", lambda: person.user in subscriber.cli("users", "list"), 10)
    assert person.user in subscriber.cli("users", "show", person.user)


def test_what_is_changed_on_a_subscriber_is_changed_everywhere(publisher, subscriber, lab):
    name = f"there-{secrets.token_hex(3)}"
    subscriber.cli("users", "add", name, "--password", secrets.token_urlsafe(9))
    # Whoever wrote reads it at once, on the node that was asked.
    assert name in subscriber.cli("users", "list")
    assert name in publisher.cli("users", "list")
    eventually("it is there", lambda: name in lab.node("node3").cli("users", "list"), 10)
    # A refusal comes back as one.
    again = subscriber.attempt_cli("users", "add", name, "--password", "another-password")
    assert again.returncode != 0 and name in again.stderr + again.stdout
    subscriber.cli("users", "delete", name)
    assert name not in publisher.cli("users", "list")


@scene()
async def test_who_signs_in_on_another_node_is_sent_home(person, publisher, subscriber):
    publisher.cli("users", "assign", "node1", person.user)
    eventually("the home is known", lambda: "node1" in subscriber.cli("users", "show", person.user), 10)
    there = Person(subscriber, person.user, person.password).slix()
    async with online(there):
        assert there.place[0] == publisher.address


def test_without_the_publisher_subscribers_read_and_say_why_nothing_changes(lab, publisher, subscriber, person):
    eventually("it is there", lambda: person.user in subscriber.cli("users", "list"), 10)
    lab.command("kill", "node1")
    try:
        assert person.user in subscriber.cli("users", "list")
        begin = time.monotonic()
        refused = subscriber.attempt_cli("users", "add", "nobody", "--password", "some-password")
        text = refused.stderr + refused.stdout
        assert refused.returncode != 0 and "node1" in text and "cannot be reached" in text, text
        assert time.monotonic() - begin < 20
        eventually("it is told", lambda: states(subscriber)["node1"] == 3, 30)
    finally:
        lab.command("start", "node1", seconds=240)
    eventually("all is good again", lambda: states(subscriber) == GOOD, 60)
    assert "nobody" not in publisher.cli("users", "list").split()


def test_a_node_that_was_killed_catches_up_by_itself(lab, publisher, subscriber):
    lab.command("kill", "node2")
    names = [f"while-away-{secrets.token_hex(3)}" for _ in range(5)]
    begin = time.monotonic()
    for name in names:
        publisher.cli("users", "add", name, "--password", secrets.token_urlsafe(9))
    # node3 keeps up, so nobody waits for node2.
    assert time.monotonic() - begin < 30
    lab.command("start", "node2", seconds=240)
    eventually("state 2 everywhere", lambda: states(publisher) == GOOD, 60)
    there = subscriber.cli("users", "list")
    assert all(name in there for name in names)
    publisher.cli("users", "delete", *names)


@pytest.mark.parametrize("word", ["STARTED"])
def test_every_service_of_a_subscriber_is_up(subscriber, word):
    services = subscriber.services().values()
    late = [one for one in services if one["state"] != word and (one["kind"] != "feature" or one["activated"])]
    assert late == []


def test_strangers_are_refused_before_anything_is_read(publisher, lab):
    """Both ports want TLS 1.3; the one between nodes also a certificate of the cluster."""
    import socket
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((publisher.address, 1500), 10) as plain:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with context.wrap_socket(plain) as stream:
                # With TLS 1.3 the refusal comes with the first read.
                stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                assert stream.recv(100) == b""
                raise ConnectionError("it was closed without a word")
