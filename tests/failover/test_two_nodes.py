"""Failover of a pair that has nobody to ask: known hosts decide."""

from __future__ import annotations

import pytest
from node import Person, eventually, online, scene
from pair import BACKUP, BY_HAND, FAILED_OVER, NORMAL, SICK, SILENT
from person import redirection

NODES = 2
DOWN = "Critical Services Down"


def test_the_answer_is_the_one_that_scripts_know(pair):
    group = pair.group(pair.one)
    for node in (pair.one, pair.two):
        assert node.cli("utils", "ha", "status") == (
            f"Subcluster Name: {group}\nNode 1 Name : node1 State: Normal\nNode 2 Name : node2 State: Normal\n"
        )


@pytest.mark.parametrize("asked", ["node1", "node2"])
def test_failover_and_fallback_by_hand(pair, asked):
    """Rows 3 and 1, asked for on either node."""
    node = pair.lab.node(asked)
    with pair.scenario(f"failover by hand, asked for on {asked}", pair.two):
        said = node.cli("utils", "ha", "failover", "node1")
        assert said.startswith("Initiate Manual Failover for Node > node1\nRequest SUCCESSFUL.\nSubcluster Name: ")
        pair.until(pair.two, ("Idle", BY_HAND), (BACKUP, BY_HAND))
    pair.until(pair.one, ("Idle", BY_HAND), (BACKUP, BY_HAND))
    assert pair.serves(pair.two, pair.two) == ["node1", "node2"]
    services = pair.one.services()
    assert services["xmpp-router"]["state"] == "STOPPED" and "failed over" in services["xmpp-router"]["reason"]
    assert services["database"]["state"] == "STARTED"
    again = node.attempt_cli("utils", "ha", "failover", "node1")
    assert again.returncode != 0 and "Idle" in again.stdout + again.stderr

    node.cli("utils", "ha", "fallback", "node1")
    pair.normal()
    pair.one.settle()
    assert pair.serves(pair.two, pair.one) == ["node1"]
    assert "An administrator asked for it." in pair.one.cli("utils", "ha", "history")


@pytest.fixture
def alice(pair, at_home):
    """Somebody at home on node 1."""
    return at_home(pair.one)[0]


def taken_by(person, node, expected: str) -> None:
    """Wait until a node answers a sign-in so: with another node's address, or by taking it."""
    def answer() -> str:
        try:
            return redirection(person, node)
        except (AssertionError, OSError) as error:
            return f"no answer ({error!r})"

    seen: list[str] = []
    eventually(f"{node.name} answers {expected!r}", lambda: seen.append(answer()) or seen[-1] == expected, 20)


def test_people_are_taken_by_the_peer_and_go_home_again(pair, alice):
    """Who is at home on node 1: redirected by node 2, taken by it after a failover and after a power loss, then sent home."""
    elsewhere = Person(pair.two, alice.user, alice.password)
    taken_by(alice, pair.one, "")
    taken_by(alice, pair.two, pair.one.address)

    @scene(60)
    async def talks_on(node):
        async with online(Person(node, alice.user, alice.password).slix()) as (client,):
            client.write(alice.jid, "to myself")
            await client.received("to myself")
            assert client.place[0] == node.address

    pair.one.cli("utils", "ha", "failover", "node1")
    taken_by(elsewhere, pair.two, "")
    talks_on(node=pair.two)
    pair.until(pair.two, ("Idle", BY_HAND), (BACKUP, BY_HAND))
    pair.one.cli("utils", "ha", "fallback", "node1")
    pair.normal()
    pair.one.settle()
    taken_by(alice, pair.one, "")
    taken_by(alice, pair.two, pair.one.address)

    pair.lab.command("kill", "node1")
    taken_by(elsewhere, pair.two, "")
    talks_on(node=pair.two)


def test_a_critical_service_that_cannot_come_back(pair):
    """Rows 12 and 11."""
    folder = "/run/systemd/system/xmpp-router.service.d"
    lines = "[Service]\nExecStart=\nExecStart=/usr/bin/signalbox serve no-such-service\n"
    with pair.parameter("Critical Service Down Delay", "5", "90"):
        pair.one.run("sh", "-c", f"mkdir -p {folder} && cat > {folder}/90-test.conf && systemctl daemon-reload", input=lines)
        try:
            with pair.scenario("kill -9 of a critical service that stays down, 5 s allowed", pair.two):
                pair.one.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "xmpp-router")
                pair.until(pair.two, (SICK, DOWN), (BACKUP, DOWN))
        finally:
            pair.one.run("sh", "-c", f"rm -r {folder} && systemctl daemon-reload && systemctl restart --no-block xmpp-router")
        pair.until(pair.two, (FAILED_OVER, DOWN), (BACKUP, DOWN), 60)
    advice = pair.two.cli_json("utils", "ha", "status")["advice"]
    assert any("utils ha fallback" in line for line in advice)


def test_a_restarted_service_moves_nobody(pair):
    pair.one.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "xmpp-router")
    pair.one.settle()
    pair.normal(5)


def test_power_loss(pair):
    """Row 16 until the node is back, then fallback."""
    with pair.scenario("power loss, known hosts", pair.two):
        pair.lab.command("kill", "node1")
        pair.until(pair.two, SILENT, (BACKUP, "Peer Down"))
    assert pair.serves(pair.two, pair.two) == ["node1", "node2"]
    pair.lab.command("start", "node1", seconds=240)
    eventually("it is back", lambda: (seen := pair.try_states(pair.one)) and seen[0][0] == FAILED_OVER, 60)
    assert pair.serves(pair.one, pair.one) == []
    pair.one.cli("utils", "ha", "fallback", "node1")
    pair.normal()


def test_a_shutdown_is_told(pair):
    """Row 17."""
    with pair.scenario("shutdown in order", pair.two):
        pair.lab.command("stop", "node1")
        pair.until(pair.two, SILENT, (BACKUP, "Peer Reboot"), 10)
    pair.lab.command("start", "node1", seconds=240)


def test_a_cut_link_makes_both_serve_everybody_until_they_meet_again(pair):
    pair.lab.command("cut", "node1", "node2")
    pair.until(pair.one, (BACKUP, "Peer Down"), SILENT)
    pair.until(pair.two, SILENT, (BACKUP, "Peer Down"))
    pair.lab.command("heal")
    pair.normal()
    for node in (pair.one, pair.two):
        assert pair.serves(node, node) == [node.name]


def test_a_manager_that_hangs_is_killed_before_its_peer_decides(pair):
    before = len(pair.events(pair.two))
    pid = pair.one.main_pid("server-recovery-manager")
    pair.one.run("kill", "-STOP", str(pid))
    eventually("it was killed and started again", lambda: pair.one.main_pid("server-recovery-manager") not in (0, pid), 10)
    pair.normal()
    moved = [event for event in pair.events(pair.two)[before:] if event["to"].startswith("Taking Over")]
    assert moved == []


@pytest.mark.parametrize("state", ["normal", "failed over by hand", "after a power loss"])
def test_both_nodes_restart_in_every_state(pair, state):
    """Whatever the state was, both come up by themselves, and nobody's users are left alone."""
    if state == "failed over by hand":
        pair.one.cli("utils", "ha", "failover", "node1")
        pair.until(pair.two, ("Idle", BY_HAND), (BACKUP, BY_HAND))
    elif state == "after a power loss":
        pair.lab.command("kill", "node1")
        pair.until(pair.two, SILENT, (BACKUP, "Peer Down"))
    for node in (pair.one, pair.two):
        if node.entry["leader_pid"] is not None:
            pair.lab.command("kill", node.name)
    for node in (pair.one, pair.two):
        pair.lab.command("start", node.name, seconds=240)
    if state == "normal":
        pair.normal()
    else:
        first = "Idle" if state == "failed over by hand" else FAILED_OVER
        eventually("both are stable", lambda: (seen := pair.try_states(pair.two)) and (seen[0][0], seen[1][0]) == (first, BACKUP), 60)
        assert pair.serves(pair.two, pair.two) == ["node1", "node2"]
