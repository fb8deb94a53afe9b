"""`set network`: answered when it is applied, one at a time, and taken back with a reason when it does not work out."""

from __future__ import annotations

import base64
import ipaddress
import ssl
import subprocess

import pytest
from node import LAB, eventually

ADDRESS = "10.201.7.99"
PRESENTING = {"web", "xmpp-connection-manager"}
"""The services that show a certificate with the node's names, and restart for a new one."""
MASK, GATEWAY = "255.255.255.0", "10.201.7.254"


@pytest.fixture
def second(lab):
    """The node whose network is changed."""
    return lab.node("node2")


def certified(node) -> bytes:
    """The certificate that people's clients are shown, as it lies in its file."""
    text = node.run("cat", "/etc/signalbox/certificates/xmpp/certificate.pem")
    first = text.split("-----END")[0].split("\n", 1)[1]
    return base64.b64decode(first)


def alternative(address: str) -> bytes:
    """An address among the alternative names of a certificate: RFC 5280 §4.2.1.6, iPAddress [7]."""
    return b"\x87\x04" + ipaddress.ip_address(address).packed


def served(node, port: int) -> bytes:
    """The certificate that is shown at a port; nothing while nobody answers."""
    try:
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((node.address, port), timeout=5))
    except OSError:
        return b""


def stale(node) -> set[str]:
    """The services that an administrator is told to restart."""
    alarms = node.cli_json("alarms", "list")["alarms"]
    return {alarm["text"].partition(" ")[0] for alarm in alarms if alarm["id"].startswith("RestartNeeded-")}


def registrations(lab, node) -> int:
    """How often the database has written the node's own row."""
    return lab.command("logs", node.name, "--", "-u", "database").stdout.count("This node's own row was written")


def change_address(node, address: str) -> None:
    node.cli("set", "network", "ip", "eth0", address, MASK, GATEWAY, input="y\n")


def test_a_new_address_is_in_force_when_the_command_answers(lab, second):
    before, processes = registrations(lab, second), second.running()
    try:
        change_address(second, ADDRESS)
        assert ADDRESS in second.cli("show", "network", "eth0")
        assert f'address = "{ADDRESS}"' in second.run("cat", "/etc/signalbox/node.toml")
        assert alternative(ADDRESS) in certified(second)
        assert lab.node("node1").reaches(ADDRESS)
        eventually("the table of nodes follows", lambda: registrations(lab, second) > before)
    finally:
        change_address(second, second.address)
    assert alternative(second.address) in certified(second)
    assert alternative(ADDRESS) not in certified(second)
    eventually("everything is up", second.all_up)
    after = second.running()
    assert {name for name in processes if after[name] != processes[name]} == PRESENTING


def test_a_new_host_name_is_in_force_when_the_command_answers(lab, second):
    before, processes = registrations(lab, second), second.running()
    assert stale(second) == set()
    try:
        second.cli("set", "network", "hostname", "renamed", input="y\n")
        assert second.run("hostname").strip() == "renamed"
        assert 'name = "renamed"' in second.run("cat", "/etc/signalbox/node.toml")
        assert b"renamed" in certified(second)
        eventually("the table of nodes follows", lambda: registrations(lab, second) > before)
        for port in (8443, second.xmpps):
            eventually(f"port {port} shows the new name", lambda: b"renamed" in served(second, port))
        # The router keeps its name as long as it runs, and a restart would end people's sessions: for the administrator to decide.
        eventually("an alarm says so", lambda: stale(second) == {"xmpp-router"})
        said = second.cli("alarms", "list")
        assert "xmpp-router must be restarted: parameter node has changed since it was started." in said
    finally:
        second.cli("set", "network", "hostname", "node2", input="y\n")
    assert second.run("hostname").strip() == "node2"
    eventually("the alarm is over", lambda: stale(second) == set())
    for port in (8443, second.xmpps):
        eventually(f"port {port} shows the old name", lambda: b"node2" in served(second, port))
    eventually("everything is up", second.all_up)
    after = second.running()
    assert {name for name in processes if after[name] != processes[name]} == PRESENTING


def test_what_does_not_work_out_is_taken_back_and_nothing_else_is_done_meanwhile(second):
    """Nobody in the lab gives addresses by DHCP; that takes a minute to be sure of."""
    settings = second.run("cat", "/etc/systemd/network/10-eth0.network")
    trying = subprocess.Popen(
        [LAB, "cli", second.name, "--", "set", "network", "dhcp", "eth0", "enable"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    trying.stdin.write("y\n")
    trying.stdin.close()
    try:
        unit = ("systemctl", "show", "--property=ActiveState", "--value", "signalbox-network-change")
        eventually("the change is being tried", lambda: second.run(*unit) == "activating\n")
        other = second.attempt_cli("set", "network", "mtu", "1400", input="y\n")
        assert other.returncode != 0
        assert "another change of the network settings is being applied" in other.stdout + other.stderr
        said = trying.stdout.read()
        assert trying.wait(120) != 0
    finally:
        trying.kill()
    assert "no DHCP server gave eth0 an address" in said and "the old network settings were restored" in said, said
    assert second.run("cat", "/etc/systemd/network/10-eth0.network") == settings
    assert second.address in second.cli("show", "network", "eth0")
