"""The administrator's command line, as scripts and parsers of the originals expect it."""

from __future__ import annotations

import json
import re
import secrets

import pytest
from node import eventually
from wire import Wire

SERVICE_LINE = re.compile(r"^(.+?)\[(STARTED|STOPPED)\](.*)$")
"""The pattern that existing parsers use."""


def test_service_list_in_the_layout_that_parsers_know(node):
    lines = node.cli("utils", "service", "list").splitlines()
    assert lines[0] == "Requesting service status, please wait..."
    found = {match[1]: (match[2], match[3]) for line in lines if (match := SERVICE_LINE.match(line))}
    for name in ("A Cisco DB", "Cisco XCP Router", "Cisco XCP Connection Manager", "Cisco Tomcat", "Cisco IM and Presence Data Monitor"):
        assert found[name][0] == "STARTED", lines
    assert any(line.startswith("Primary Node =true") for line in lines)


def test_service_list_tells_why_a_service_is_down(node):
    try:
        node.cli("utils", "service", "stop", "Cisco Log Partition Monitoring Tool")
        lines = node.cli("utils", "service", "list").splitlines()
        assert any(re.match(r"^Cisco Log Partition Monitoring Tool\[STOPPED\]\s+Commanded Out of Service", line) for line in lines), lines
    finally:
        node.cli("utils", "service", "start", "Cisco Log Partition Monitoring Tool")


@pytest.mark.parametrize("command", [
    "utils service list", "show status", "show version active", "show network eth0", "show perf list classes",
    "users list", "utils dbreplication status", "utils dbreplication runtimestate", "file list activelog *",
    "utils service auto-restart show Cisco XCP Router", "show alarms",
])
def test_every_command_has_a_machine_form(node, command):
    done = node.attempt_cli(*command.split(), "--json")
    answer = json.loads(done.stdout)
    assert isinstance(answer["ok"], bool)
    assert answer["ok"] == (done.returncode == 0)
    assert "result" in answer or answer["error"]["message"]


def test_show_status(node):
    text = node.cli("show", "status")
    for label in ("Host Name", "Date", "Time Zone", "Locale", "Product Ver", "Uptime", "Disk/active", "Disk/logging"):
        assert label in text, text
    assert re.search(r"^Host Name\s*:\s*node1$", text, re.MULTILINE)
    assert re.search(r"^Disk/logging\s+\d+K?\s+\d+K?\s+\d+K?\s+\(\d+%\)", text, re.MULTILINE), text


def test_show_tech_has_everything_but_secrets(node):
    user, password = f"tech-{secrets.token_hex(3)}", secrets.token_urlsafe(12)
    node.cli("users", "add", user, "--password", password)
    text = node.cli("show", "tech")
    answer = json.loads(node.cli("show", "tech", "--json"))
    assert answer["ok"]
    for part in ("Cisco XCP Router", node.address, "JSM Session Counters"):
        assert part in text and part in json.dumps(answer), part
    keys = node.run("sh", "-c", "find /etc/signalbox -name '*key*.pem' -exec sed -n 2p {} +").split()
    assert keys
    for secret in (password, node.lab.json["admin"]["password"], *keys):
        assert secret not in text and secret not in json.dumps(answer)
    section = node.cli("show", "tech", "services")
    assert "Cisco XCP Router[STARTED]" in section and len(section) < len(text)
    assert node.attempt_cli("show", "tech", "nonsense").returncode != 0
    node.cli("users", "delete", user)


def test_show_version(node):
    text = node.cli("show", "version", "active")
    assert re.search(r"^Active Master Version: \S+", text, re.MULTILINE)
    assert "Active Version Installed Software Options:" in text
    assert "No Installed Software Options Found." in text


def test_show_network(node):
    assert node.address in node.cli("show", "network", "eth0")


def test_runtimestate_of_a_single_node(node):
    done = node.attempt_cli("utils", "dbreplication", "runtimestate")
    assert "Runtime state cannot be performed on a cluster with a single active node; aborting operation" in done.stdout + done.stderr


def test_performance_counters(node, people):
    """Signing in shows in the connection manager's counter of sockets."""
    def sockets() -> int:
        text = node.cli("show", "perf", "query", "class", '"Cisco XCP CM"')
        assert text.splitlines()[0] == "==>query class :"
        assert " - Perf class (Cisco XCP CM) has instances and values:" in text
        return int(re.search(r"^\s+\S.*->\s+CmConnectedSockets\s+= (\d+)$", text, re.MULTILINE)[1])

    (alice,) = people("alice")
    before = sockets()
    with alice.wire() as wire:
        wire.starttls()
        assert wire.scram(alice.user, alice.password).startswith(b"<success")
        eventually("the connection is counted", lambda: sockets() == before + 1)
    eventually("it is not counted any more", lambda: sockets() == before)


def test_what_does_not_exist_says_so_and_what_there_is(node):
    done = node.attempt_cli("utils", "service", "frobnicate")
    assert done.returncode == 2
    assert "No valid command entered" in done.stdout + done.stderr
    done = node.attempt_cli("utils", "service", "start", "Cisco XCP Ruter")
    assert done.returncode == 1


def test_dangerous_commands_warn_and_ask(node):
    before = node.run("cat", "/proc/sys/kernel/random/boot_id"), node.running()
    done = node.attempt_cli("utils", "system", "restart", input="n\n")
    assert "Continue (y/n)?" in done.stdout
    assert done.returncode != 0
    done = node.attempt_cli("set", "network", "ip", "eth0", "10.201.7.99", "255.255.255.0", "10.201.7.254", input="n\n")
    assert "Continue (y/n)?" in done.stdout
    assert node.running() == before[1]
    assert node.address in node.cli("show", "network", "eth0")


def test_logs_are_listed_viewed_and_cannot_be_left(node):
    listing = node.cli("file", "list", "activelog", "*")
    assert listing.strip()
    for path in ("../../etc/shadow", "/etc/shadow", "..%2f..%2fetc/shadow"):
        done = node.attempt_cli("file", "view", "activelog", path)
        assert done.returncode == 1
        assert "root:" not in done.stdout + done.stderr


def test_the_web_answers_with_the_nodes_certificate(node):
    import ssl
    import urllib.request
    context = ssl.create_default_context(cafile=node.ca)
    with urllib.request.urlopen(node.entry["web"], context=context, timeout=10) as page:
        assert page.status == 200
        assert "default-src" in page.headers["Content-Security-Policy"]


def test_a_parameter_applies_at_once_and_can_be_taken_back(node):
    def plain_is_offered() -> bool:
        with Wire(node) as wire:
            wire.starttls()
            return "<mechanism>PLAIN</mechanism>" in wire.features

    try:
        said = node.cli("set", "parameter", "authentication-service", "AllowPlain", "false")
        assert "applies at once" in said
        eventually("PLAIN is not offered any more", lambda: not plain_is_offered())
    finally:
        node.cli("unset", "parameter", "authentication-service", "AllowPlain")
    eventually("PLAIN is offered again", plain_is_offered)


def test_a_parameter_that_waits_for_a_restart_is_an_alarm_until_then(node):
    def waiting() -> bool:
        return any(alarm["id"] == "RestartNeeded-xmpp-connection-manager" for alarm in node.cli_json("alarms", "list")["alarms"])

    try:
        said = node.cli("set", "parameter", "xmpp-connection-manager", "Threads", "2")
        assert 'applies after "utils service restart xmpp-connection-manager"' in said
        eventually("the alarm tells of the restart", waiting)
        node.cli("utils", "service", "restart", "xmpp-connection-manager")
        eventually("the alarm is gone", lambda: not waiting())
    finally:
        node.cli("unset", "parameter", "xmpp-connection-manager", "Threads")
        node.cli("utils", "service", "restart", "xmpp-connection-manager")
        eventually("nothing waits for a restart", lambda: not waiting())


def test_a_value_that_cannot_be_is_refused_with_what_can(node):
    done = node.attempt_cli("set", "parameter", "xmpp-router", "RosterItems", "many")
    assert done.returncode == 1
    assert "a whole number from 1 to 10000" in done.stdout + done.stderr
