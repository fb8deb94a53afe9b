"""The lab keeps its word: exit statuses, input, isolation, cuts, power cuts, clean shutdowns, reboots, logs."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import time

import pytest
from node import LAB, REPOSITORY, eventually


@pytest.fixture
def second(lab):
    """The other node: tests that switch a node off take this one. It runs again when the test has ended."""
    yield lab.node("node2")
    if lab.node("node2").entry["leader_pid"] is None:
        lab.command("start", "node2", seconds=240)


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not yet waited for does not."""
    try:
        stat = open(f"/proc/{pid}/stat", encoding="ascii", errors="replace").read()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_lab_json_tells_where_the_nodes_are(lab):
    content = lab.json
    assert [entry["name"] for entry in content["nodes"]] == ["node1", "node2"]
    for entry in content["nodes"]:
        assert {"name", "address", "role", "leader_pid", "web", "xmpp", "domain"} <= set(entry)
        assert alive(entry["leader_pid"])
        assert entry["address"] in entry["web"] and entry["address"] in entry["xmpp"]
    assert content["admin"]["user"] and len(content["admin"]["password"]) >= 12
    # It holds a password.
    assert (REPOSITORY / "target/lab/lab.json").stat().st_mode & 0o077 == 0


def test_status_tells_each_service_of_each_node(lab):
    for node in lab.status()["nodes"]:
        assert node["phase"] == "up"
        assert node["services"] and all({"id", "state"} <= set(service) for service in node["services"])


def test_exit_status_passes_through(node):
    assert node.attempt("sh", "-c", "exit 7").returncode == 7
    assert node.attempt("true").returncode == 0
    assert node.attempt("/no/such/program").returncode != 0


def test_output_and_errors_stay_apart(node):
    done = node.attempt("sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_standard_input_passes_through_to_the_last_byte(node):
    text = "0123456789abcdef" * 100_000
    assert node.run("sha256sum", input=text) == subprocess.run(
        ["sha256sum"], input=text, capture_output=True, text=True, check=True
    ).stdout


def test_a_file_as_standard_input_can_be_opened_again(lab, node, tmp_path):
    path = tmp_path / "file"
    path.write_text("line\n")
    with path.open() as handle:
        assert lab.command("exec", node.name, "--", "cat", "/dev/stdin", stdin=handle).stdout == "line\n"


def test_a_command_in_a_node_has_the_nodes_capabilities_only(node):
    """The clock has no namespace: a command that kept the host's capabilities could move the host's clock."""
    before = os.stat("/proc/self").st_ctime
    assert node.attempt("date", "-s", "2020-01-01").returncode != 0
    assert os.stat("/proc/self").st_ctime - before < 60


def test_what_a_command_is_given_is_not_in_the_nodes_journal(lab, node):
    """An argument may be a password, and support is sent the journal."""
    user, secret = f"quiet-{secrets.token_hex(3)}", secrets.token_hex(12)
    node.cli("users", "add", user, "--password", secret)
    node.run("true", secret)
    assert node.attempt("false", secret).returncode == 1
    assert node.attempt("/no/such/program", secret).returncode != 0
    node.run("journalctl", "--sync")
    # Every field, that with the command line of whoever wrote a line included.
    journal = lab.command("logs", node.name, "--", "--output=json", "--all", "--since=-10min").stdout
    assert "A command from outside the node" in journal
    assert secret not in journal
    node.cli("users", "delete", user)


def sleeping(node) -> bool:
    """Whether the command of the next two tests is there, or something that is about to start it."""
    return any(line.endswith("sleep 86399") for line in node.run("ps", "-ewwo", "args").splitlines())


def children(pid: int) -> list[int]:
    """The child processes of a process."""
    try:
        return [int(word) for word in open(f"/proc/{pid}/task/{pid}/children", encoding="ascii").read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


@pytest.fixture
def running(node):
    """A command in a node that does not end by itself."""
    with subprocess.Popen([LAB, "exec", node.name, "--", "sleep", "86399"], stdin=subprocess.DEVNULL) as running:
        yield running
        running.kill()


def test_an_interrupted_command_leaves_nothing_running(node, running):
    """Control-C ends the command in the node as well."""
    eventually("the command runs", lambda: sleeping(node))
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 130
    assert not sleeping(node)


def test_a_command_interrupted_while_it_starts_leaves_nothing_running(node, running):
    """What enters the node has begun, is held up, and has not asked for the command yet."""
    (outside, inside), = eventually("the node is entered", lambda: [(one, two) for one in children(running.pid) for two in children(one)], every=0)
    os.kill(inside, signal.SIGSTOP)
    running.send_signal(signal.SIGINT)
    # Time enough to believe that all is done, and then it goes on.
    time.sleep(1)
    for half in (outside, inside):  # nsenter stops with its child
        with contextlib.suppress(ProcessLookupError):
            os.kill(half, signal.SIGCONT)
    # So early, Python itself may still be starting: then the signal ends it.
    assert running.wait(20) in (130, -signal.SIGINT)
    time.sleep(1)
    assert not sleeping(node)


def test_nodes_reach_each_other_and_the_host_but_nothing_else(lab, node, second):
    assert node.reaches(second.address)
    assert node.reaches("10.201.7.1")
    # An address that is nobody's: were there a way out, it would lead through the host.
    assert not node.reaches("192.0.2.1")
    forwarding = open("/proc/sys/net/ipv4/conf/sblab-host/forwarding", encoding="ascii").read()
    assert forwarding.strip() == "0"


def test_cut_and_heal(lab, node, second):
    try:
        lab.command("cut", "node1", "node2")
        assert not node.reaches(second.address)
        assert node.reaches("10.201.7.1")
        assert ["node1", "node2"] in lab.status()["cuts"]
    finally:
        lab.command("heal")
    # Asking again for an address that did not answer takes a second.
    eventually("the nodes reach each other again", lambda: node.reaches(second.address), 10)
    assert lab.status()["cuts"] == []


def test_cut_one_way(lab, node, second):
    """node1 hears node2 and cannot answer."""
    listen = f"timeout 10 ping -q -c 1 -W 1 {node.address}"
    try:
        lab.command("cut", "node1", "node2", "--one-way")
        assert lab.status()["cuts"] == [["node1", "node2"]]
        before = int(node.run("sh", "-c", "awk '/^Icmp:/ && !/In/ {print $2}' /proc/net/snmp"))
        assert second.attempt("sh", "-c", listen).returncode != 0
        arrived = lambda: int(node.run("sh", "-c", "awk '/^Icmp:/ && !/In/ {print $2}' /proc/net/snmp")) > before  # noqa: E731
        eventually("the request has arrived", arrived, 5)
    finally:
        lab.command("heal")


def test_kill_is_a_power_cut_and_start_brings_the_node_back(lab, second):
    second.run("sh", "-c", "echo kept > /var/lib/kept-over-power-cut && sync")
    leader = second.entry["leader_pid"]
    assert "lost its power" in lab.command("kill", second.name).stderr
    assert not alive(leader)
    assert second.attempt("true").returncode != 0
    assert second.entry["leader_pid"] is None
    lab.command("start", second.name, seconds=240)
    assert second.entry["leader_pid"] != leader
    assert second.run("cat", "/var/lib/kept-over-power-cut") == "kept\n"
    second.run("rm", "/var/lib/kept-over-power-cut")


def test_logs_can_be_read_while_the_node_is_off(lab, second):
    second.run("logger", "written before the shutdown")
    lab.command("stop", second.name)
    assert "written before the shutdown" in lab.command("logs", second.name, "--", "-n", "1000").stdout
    assert "Reached target" in lab.command("logs", second.name, "--console").stdout
    lab.command("start", second.name, seconds=240)
    assert "written before the shutdown" in lab.command("logs", second.name).stdout


def test_a_reboot_keeps_lab_json_true(lab, second):
    leader = second.entry["leader_pid"]
    second.attempt("systemctl", "reboot")
    eventually("a new PID 1", lambda: second.entry["leader_pid"] not in (None, leader), seconds=60)
    lab.command("start", second.name, seconds=240)
    assert second.run("hostname") == "node2\n"


def test_a_node_that_does_not_exist_is_named(lab):
    done = lab.attempt("exec", "node8", "--", "true")
    assert done.returncode != 0
    assert "node8" in done.stderr and "node1" in done.stderr


def test_another_folder_does_nothing_to_a_lab_that_runs(lab, node, tmp_path):
    """Names, addresses and bridge are the machine's."""
    shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts")
    (tmp_path / "target/lab").mkdir(parents=True)
    (tmp_path / "target/lab/lab.json").write_text(json.dumps(lab.json))

    def there(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([tmp_path / "scripts/lab", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)

    before = node.running(), node.entry["leader_pid"]
    for words in (["up"], ["up", "--keep"], ["start", "node1"], ["kill", "node1"], ["cli", "node1", "--", "show", "status"], ["heal"]):
        done = there(*words)
        assert done.returncode == 1, words
        assert f"the lab of {REPOSITORY} runs" in done.stderr and f"{REPOSITORY}/scripts/lab down" in done.stderr, done.stderr
    down = there("down")
    assert down.returncode == 0 and str(REPOSITORY) in down.stderr
    assert str(REPOSITORY) in there("status").stdout
    assert (node.running(), node.entry["leader_pid"]) == before
