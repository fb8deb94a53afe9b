"""Unattended set-up by an answers disk, and what stays of it."""

from __future__ import annotations

import socket
import ssl
import time

import pytest
from guest import BOOT_SECONDS, boot, end

from signalbox_tools import lab_services
from signalbox_tools.vm_machine import Machine

ANSWERS = """
domain = "example.test"
security_password = "one-for-all-nodes"
time_zone = "Europe/Berlin"
[network]
hostname = "node1"
domain = "example.test"
address = "10.0.2.15/24"
gateway = "10.0.2.2"
[administrator]
user = "operator"
password = "only-for-this-test"
[certificate]
organization = "Example"
"""


@pytest.fixture(scope="module")
def node(image, tmp_path_factory):
    """A UEFI machine that was set up by its answers disk, with all its services up."""
    answers = tmp_path_factory.mktemp("answers") / "answers.toml"
    answers.write_text(ANSWERS)
    guest = boot("setup", "uefi", answers)
    guest.machine.wait_for("test -e /etc/signalbox/node.toml", BOOT_SECONDS)
    wait_for_services(guest.machine)
    yield guest
    end(guest)


def wait_for_services(machine: Machine) -> None:
    """Until every service that has to be up is up."""
    deadline = time.monotonic() + BOOT_SECONDS
    late: list[str] = ["the supervisor does not answer"]
    while late and time.monotonic() < deadline:
        _, out, _ = machine.execute(" ".join(lab_services.LIST), seconds=60)
        listed = lab_services.parse(out.decode())
        if listed:
            late = [f"{service.id}: {service.state} {service.reason}" for service in listed if service.expected and not service.up]
        time.sleep(1)
    assert not late, late


def test_answers_took_effect(node):
    assert node.run("hostname").strip() == "node1"
    assert node.run("readlink /etc/localtime").strip().endswith("Europe/Berlin")
    assert "10.0.2.15/24" in node.run("ip -4 address show dev eth0")
    assert "operator" in node.run("getent passwd operator")


def test_no_password_lies_about(node):
    for password in ("only-for-this-test", "one-for-all-nodes"):
        found = node.run(f"grep -rlsF {password} /etc /var/lib /var/log /run --exclude-dir=journal || true").split()
        assert found == [], f"{password} is readable in a file"
        assert node.run(f"journalctl --no-pager | grep -cF {password} || true").strip() == "0"


def test_chat_port_answers_with_tls_from_the_hosts_side(node):
    port = node.machine.state()["ports"]["xmpps"]
    certificate = node.run("cat /etc/signalbox/certificates/ca/certificate.pem")
    context = ssl.create_default_context(cadata=certificate)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain, context.wrap_socket(plain, server_hostname="example.test") as secure:
        secure.sendall(b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='example.test' version='1.0'>")
        answer = b""
        while b"</stream:features>" not in answer:
            data = secure.recv(4096)
            assert data, answer
            answer += data
    assert b"SCRAM-SHA-256" in answer


def test_settings_and_users_survive_power_cuts(node, request):
    """The node is itself again after each cut, with what it had acknowledged."""
    identity = node.run("cat /etc/machine-id; sha256sum /etc/ssh/ssh_host_*_key /etc/signalbox/node.toml")
    for cut in range(50 if request.config.getoption("--vm-full") else 5):
        node.run(f"signalbox cli users add cut{cut} --password only-for-{cut}-test", seconds=120)
        node.machine.power_cut()
        node.machine.start()
        node.wait_until_up()
        wait_for_services(node.machine)
        assert node.run("cat /etc/machine-id; sha256sum /etc/ssh/ssh_host_*_key /etc/signalbox/node.toml") == identity
        listed = node.run("signalbox cli users list", seconds=120)
        assert all(f"cut{number}" in listed for number in range(cut + 1)), listed
