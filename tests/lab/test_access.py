"""Which process may open which socket, and what administrators of each level may."""

from __future__ import annotations

import json

import pytest

SOCKETS = "/run/signalbox/sockets"

CALLERS = {
    "database/administration": {"signalbox-administration"},
    "database/assignment": {"sync-agent"},
    "database/conversation": {"xmpp-router"},
    "database/keys": {"authentication-service"},
    "database/maintenance": {"database-replicator", "database-layer-monitor"},
    "database/pages": {"web"},
    "database/settings": {
        "data-monitor", "log-partition-monitor", "server-recovery-manager", "xmpp-config-manager", "xmpp-connection-manager",
        "route-datastore", "login-datastore", "presence-datastore", "sip-registration-datastore",
    },
    "xmpp-router": {"xmpp-connection-manager"},
    "authentication-service": {"xmpp-connection-manager"},
    "supervisor": {"server-recovery-manager", "signalbox-administration", "web"},
    "server-recovery-manager/administration": {"signalbox-administration"},
    "server-recovery-manager/homes": {"xmpp-router"},
    "presence-datastore": {"signalbox-administration", "xmpp-router"},
    "xmpp-config-manager": {"authentication-service", "xmpp-connection-manager", "xmpp-router"},
}
"""For each sensitive socket the services whose work it is to call it."""

EVERY = sorted(set().union(*CALLERS.values()) | {"database"})


def identity(node, service: str) -> list[str]:
    """The user and groups that a service's process has now."""
    pid = node.run("systemctl", "show", "--property=MainPID", "--value", service).strip()
    status = dict(line.split(":\t", 1) for line in node.run("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line)
    groups = ",".join(status["Groups"].split())
    return [f"--reuid={status['Uid'].split()[0]}", f"--regid={status['Gid'].split()[0]}", f"--groups={groups}"]


def opens(node, who: list[str], path: str) -> bool:
    """Whether a process of that identity can write to the socket, which is what connecting needs."""
    done = node.attempt("setpriv", *who, "--", "test", "-w", path)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("socket", sorted(CALLERS))
def test_a_socket_opens_for_its_callers_and_for_nobody_else(node, socket):
    path = f"{SOCKETS}/{socket}/socket"
    kind = node.run("stat", "--format=%F %a", path).strip()
    assert kind == "socket 660"
    server = socket.split("/")[0]
    allowed = {service for service in EVERY if opens(node, identity(node, service), path)}
    assert allowed - {server} == CALLERS[socket]


def test_the_folders_cannot_be_taken_over(node):
    """A service makes sockets in its own folder only."""
    for service in ("web", "xmpp-connection-manager"):
        who = identity(node, service)
        for socket in CALLERS:
            done = node.attempt("setpriv", *who, "--", "touch", f"{SOCKETS}/{socket}/intruder")
            assert done.returncode != 0 and "denied" in done.stderr.lower(), (service, socket)


def as_user(user: str, group: str) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--init-groups", "--"]


@pytest.fixture
def administrators(node):
    """One administrator of each level, made as set-up makes one."""
    levels = {"signalbox-viewer": "level0", "signalbox-operator": "level1", "signalbox-admin": "level4"}
    for group, user in levels.items():
        node.run("useradd", "--no-create-home", "--no-user-group", "--gid", group, user)
    yield {0: as_user("level0", "signalbox-viewer"), 1: as_user("level1", "signalbox-operator"), 4: as_user("level4", "signalbox-admin")}
    for user in levels.values():
        node.run("userdel", user)


def answer(node, who: list[str], *words: str) -> dict:
    return json.loads(node.attempt(*who, "/usr/bin/signalbox", "cli", *words, "--json").stdout)


def test_each_level_does_what_it_may_and_no_more(node, administrators):
    for level, who in administrators.items():
        assert answer(node, who, "utils", "service", "list")["ok"], level
        waits = answer(node, who, "utils", "service", "list")["result"]["services"]
        assert all("reason" in service for service in waits)
        restart = answer(node, who, "utils", "service", "restart", "log-partition-monitor")
        assert restart["ok"] == (level >= 1), restart
        logs = answer(node, who, "file", "tail", "activelog", "journal/xmpp-router.log")
        assert logs["ok"] == (level >= 1), logs
        gate = answer(node, who, "set", "replication-sync", "monitor", "enable")
        assert gate["ok"] == (level >= 4), gate
    assert "level 1" in answer(node, administrators[0], "utils", "service", "restart", "web")["error"]["message"]


def test_no_administrator_opens_a_sensitive_socket(node, administrators):
    for who in administrators.values():
        for socket in CALLERS:
            assert node.attempt(*who, "test", "-w", f"{SOCKETS}/{socket}/socket").returncode == 1, (who, socket)
        assert node.attempt(*who, "journalctl", "-n1").returncode != 0


def test_a_stranger_is_no_administrator(node):
    for user in ("sb-web", "nobody"):
        done = answer(node, as_user(user, "nogroup"), "utils", "service", "list")
        assert not done["ok"] and "not an administrator" in done["error"]["message"]


def test_an_action_is_audited_with_the_name_of_who_asked(node, administrators):
    answer(node, administrators[1], "utils", "service", "restart", "log-partition-monitor")
    answer(node, administrators[0], "utils", "service", "restart", "log-partition-monitor")
    lines = node.run("journalctl", "--output=json", "--lines=20", "TARGET=audit", "--no-pager").splitlines()
    audit = [json.loads(line) for line in lines]
    done = [(one["F_USER"], one["F_ACTION"], one["F_OUTCOME"]) for one in audit if one.get("F_ACTION") == "service.restart"]
    assert ("level1", "service.restart", "done") in done
    assert ("level0", "service.restart", "forbidden") in done
