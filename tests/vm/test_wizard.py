"""The wizard at the serial console of a machine with BIOS, typed on like a person does."""

from __future__ import annotations

import shlex
import tomllib

import pytest
from guest import BOOT_SECONDS, Node, make
from serial_console import SerialConsole

PASSWORD = "only-for-this-test"
CLUSTER_PASSWORD = "one-for-all-nodes"
NEXT = "\x0e"


@pytest.fixture
def console(bios):
    """The serial console of a fresh machine, with the wizard on it."""
    console = SerialConsole(bios)
    # Whoever connects late asks for the screen again.
    console.send("\x0c")
    console.expect("This node is not set up", BOOT_SECONDS)
    yield console
    console.close()


def to_the_address(console: SerialConsole) -> None:
    """Up to the question for the address."""
    console.answer("Set this node up by answering questions", "")
    console.answer("For how many users?", "")
    console.answer("Type a part of the name", "berlin")
    console.answer("MTU", "")
    console.answer("How does this node get its address?", "")


def test_wizard_sets_the_node_up_and_the_console_leads_to_the_command_line(bios, console):
    to_the_address(console)
    console.answer("Host name and address", "node1", "10.0.2.15", "24", "10.9.9.9")
    console.expect("Gateway must lie in the network of 10.0.2.15/24")
    console.answer("Gateway", "\x1510.0.2.2")
    console.answer("Domain of the host", "example.test", "", "", "")
    console.answer("Administrator id", "operator", PASSWORD, PASSWORD, seconds=60)
    console.answer("Organisation", "Example", "", "", "", "DE")
    console.answer("Is this the first node", "")
    console.answer("First time server", "", "", "", "", "")
    console.answer("Security password", CLUSTER_PASSWORD, CLUSTER_PASSWORD)
    console.answer("Mail server", "")
    console.answer("User id", "", "", "")
    console.answer("stands behind the @", "example.test")
    console.answer("Which services to activate now", "")
    console.expect("Set the node up now")
    bios.run("! test -e /etc/signalbox/node.toml")
    console.send("\r")
    console.expect("The node is being set up")
    console.expect("Press Enter for the command line", 120)
    assert "node1" in console.text() and "10.0.2.15" in console.text()
    assert bios.run("readlink /etc/localtime").strip().endswith("Europe/Berlin")
    assert bios.run("hostname").strip() == "node1"
    assert PASSWORD not in bios.run("journalctl --no-pager")
    console.answer("Press Enter for the command line", "")
    console.answer("login:", "operator")
    console.answer("Password:", PASSWORD)
    console.expect("admin:", 60)


def test_wizard_goes_back_and_tells_what_does_not_work(console):
    to_the_address(console)
    console.answer("Host name and address", "-node")
    console.expect("Host name must be 1 to 63 letters")
    console.answer("Host name", "\x15node1", "10.0.2.15", "24", "10.0.2.99")
    console.answer("Domain of the host", "", "", "", "")
    console.expect("FAIL  The gateway 10.0.2.99 does not answer", 60)
    console.send("\x1b")
    console.expect("Domain of the host")
    console.send("\x02")
    console.expect("[10.0.2.99 ")


def test_only_one_console_sets_up(bios, console):
    console.answer("Set this node up by answering questions", "")
    console.expect("For how many users?")
    assert bios.run("cat /run/signalbox/console.lock").strip() == "ttyS0"
    assert bios.run("systemctl is-active signalbox-console@tty1.service").strip() == "active"


def test_the_video_console_asks_and_takes_what_is_typed(bios):
    def shows(text: str) -> None:
        bios.machine.wait_for(f"grep -q {shlex.quote(text)} /dev/vcs1", BOOT_SECONDS)

    shows("This node is not set up")
    bios.machine.human("sendkey ret")
    shows("For how many users?")
    assert bios.run("cat /run/signalbox/console.lock").strip() == "tty1"


def test_saved_answers_set_another_machine_up(bios, console, tmp_path):
    to_the_address(console)
    console.answer("Host name and address", "node7", "10.0.2.15", "24", "10.0.2.2")
    console.answer("Domain of the host", "example.test", "", "", "")
    console.answer("Administrator id", "operator", PASSWORD, PASSWORD, seconds=60)
    console.answer("Organisation", "Example", "Communications", "Berlin", "Land Berlin", "DE")
    console.answer("Is this the first node", "")
    # Nobody is there to answer as a time server or as a mail server; who knows better goes on.
    console.answer("First time server", "10.0.2.2", "", "", "", "")
    console.answer("FAIL", "", seconds=60)
    console.answer("Security password", CLUSTER_PASSWORD, CLUSTER_PASSWORD)
    console.answer("Mail server", "mail.example.test")
    console.answer("FAIL", "", seconds=60)
    console.answer("User id", "pages", "only-for-the-pages", "only-for-the-pages")
    console.answer("stands behind the @", "example.test")
    console.answer("Which services to activate now", "")
    console.expect("Set the node up now")
    console.answer("Save the answers on the disk", NEXT)
    console.expect("Saved: answers.toml, with the passwords", 60)
    # A power cut, now that it has said so.
    bios.machine.power_cut()
    saved = bios.machine.saved_answers()
    # Everything that was answered, and nothing else: no key, and no secret that somebody did not type.
    assert tomllib.loads(saved) == {
        "product": "imp",
        "size": "5K",
        "role": "publisher",
        "domain": "example.test",
        "time_zone": "Europe/Berlin",
        "ntp": ["10.0.2.2"],
        "security_password": CLUSTER_PASSWORD,
        "features": ["xmpp-connection-manager", "authentication-service"],
        "network": {
            "hostname": "node7",
            "domain": "example.test",
            "dhcp": False,
            "address": "10.0.2.15/24",
            "gateway": "10.0.2.2",
            "mtu": 1500,
        },
        "administrator": {"user": "operator", "password": PASSWORD},
        "application_user": {"user": "pages", "password": "only-for-the-pages"},
        "certificate": {
            "organization": "Example",
            "unit": "Communications",
            "location": "Berlin",
            "state": "Land Berlin",
            "country": "DE",
        },
        "smtp": {"server": "mail.example.test"},
    }
    answers = tmp_path / "answers.toml"
    answers.write_text(saved)
    machine = make("saved", "bios", answers)
    try:
        machine.wait_for("test -e /etc/signalbox/node.toml", BOOT_SECONDS)
        node = Node(machine, "example.test")
        assert node.run("hostname").strip() == "node7"
        assert node.run("readlink /etc/localtime").strip().endswith("Europe/Berlin")
        assert "operator" in node.run("getent passwd operator")
        node.wait_until_up()
        node.assert_services_are_up()
    finally:
        machine.destroy()
