"""`scripts/vm`, with a machine that gets its answers as OVF properties from the drive, as from a hypervisor."""

from __future__ import annotations

import json
import subprocess

import pytest
from guest import ANSWERS

from signalbox_tools import host
from signalbox_tools.vm_machine import Machine

NAME = "test-command"
VM = host.REPOSITORY / "scripts/vm"


def vm(*words: str, seconds: float = 600, **options) -> subprocess.CompletedProcess:
    """`scripts/vm WORDS`."""
    if "input" not in options:
        options["stdin"] = subprocess.DEVNULL
    return subprocess.run([VM, "--name", NAME, *words], capture_output=True, text=True, timeout=seconds, check=False, **options)


@pytest.fixture(scope="module")
def machine(image, tmp_path_factory):
    """A machine that `scripts/vm up` says is up."""
    Machine(NAME).destroy()
    answers = tmp_path_factory.mktemp("answers") / "answers.toml"
    answers.write_text(ANSWERS)
    try:
        done = vm("up", "--answers", str(answers), "--ovf")
        assert done.returncode == 0, done.stderr
        yield Machine(NAME)
    finally:
        Machine(NAME).destroy()


def test_the_node_is_what_the_properties_say(machine):
    facts = vm("exec", "--", "cat", "/etc/signalbox/node.toml").stdout
    assert 'name = "node1"' in facts and 'domain = "example.test"' in facts and 'address = "10.0.2.15"' in facts
    assert vm("exec", "--", "readlink", "/etc/localtime").stdout.strip().endswith("Europe/Berlin")
    said = json.loads((machine.folder / "vm.json").read_text())
    assert said["nodes"][0]["domain"] == "example.test" and said["admin"]["user"] == "operator"
    assert "only-for-this-test" not in vm("exec", "--", "journalctl", "--no-pager").stdout
    assert "users" in vm("exec", "--", "signalbox", "cli", "users", "--help").stdout.lower()


def test_commands_pass_input_and_status_through(machine):
    echoed = vm("exec", "--", "tr", "a-z", "A-Z", input="through and back\n")
    assert (echoed.returncode, echoed.stdout) == (0, "THROUGH AND BACK\n")
    failed = vm("exec", "--", "sh", "-c", "echo to standard error >&2; exit 7")
    assert (failed.returncode, failed.stdout, failed.stderr) == (7, "", "to standard error\n")


def test_power_cut_and_down_end_it(machine):
    assert vm("status").returncode == 0
    assert vm("power-cut").returncode == 0
    assert vm("status").returncode == 3
    assert vm("exec", "--", "true").returncode != 0
    assert vm("down").returncode == 0
    assert not machine.folder.exists()
