"""What was stored is there after the power was cut."""

from __future__ import annotations

import re
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from node import eventually, online, scene
from slix import until


@scene(300)
async def test_settings_and_messages_survive_a_power_cut(lab, node, people):
    alice, bob = people("alice", "bob")
    async with online(alice.slix(), bob.javascript()) as (a, b):
        a.send_presence_subscription(pto=bob.jid, ptype="subscribe")
        await b.sees(alice.jid, "subscribe")
        b.order("presence", to=alice.jid, type="subscribed")
        await a.sees(b.full, "available")
        a.register_plugin("xep_0054")
        card = a.plugin["xep_0054"].make_vcard()
        card["FN"] = "Alice Example"
        await a.plugin["xep_0054"].publish_vcard(card)
        await b.sign_out()
        await a.sees(b.full, "unavailable")
        for number in range(20):
            a.write(bob.jid, f"while you were away {number}")
        await a.handled()
        lab.command("kill", node.name)
        a.staying = False
    lab.command("start", node.name, seconds=240)
    async with online(bob.javascript()) as (b,):
        await until("all have arrived", lambda: len(b.texts) >= 20)
        assert b.texts == [(alice.jid, f"while you were away {number}") for number in range(20)]
        assert "Alice Example" in (await b.ask(alice.jid, "vCard", "vcard-temp"))["xml"]
    async with online(alice.slix()) as (a,):
        assert a.subscriptions() == {bob.jid: "to"}


@scene(300)
async def test_messages_survive_an_orderly_restart(lab, node, people):
    alice, bob = people("alice", "bob")
    async with online(alice.slix()) as (a,):
        a.write(bob.jid, "over night")
        await a.handled()
    lab.command("stop", node.name)
    lab.command("start", node.name, seconds=240)
    async with online(bob.slix()) as (b,):
        await b.received("over night")


def host_pid(node, service: str) -> int:
    """A service's process as this machine numbers it."""
    inner = str(node.main_pid(service))
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            numbers = re.search(r"^NSpid:\s+(.*)$", status.read_text(), re.MULTILINE)[1].split()
            if len(numbers) > 1 and numbers[-1] == inner and f"/{node.name}/" in (status.parent / "cgroup").read_text():
                return int(status.parent.name)
        except OSError:
            continue  # It ended while we looked.
    raise AssertionError(f"{service} of {node.name} has no process")


@pytest.mark.skipif(shutil.which("strace") is None, reason="this machine has no strace")
def test_what_is_answered_was_synced(node, tmp_path):
    """The kernel was asked to make the log durable while the command ran: what the tests of power cuts take for granted."""
    user, calls = f"synced-{secrets.token_hex(3)}", tmp_path / "calls"
    tracing = subprocess.Popen(
        ["strace", "-f", "-y", "-ttt", "-e", "trace=fsync,fdatasync", "-o", calls, "-p", str(host_pid(node, "database"))],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )
    try:
        eventually("strace is attached", lambda: "attached" in tracing.stderr.readline(), 10)
        begin = time.time()
        node.cli("users", "add", user, "--password", secrets.token_urlsafe(9))
        end = time.time()
    finally:
        node.attempt_cli("users", "delete", user)
        tracing.send_signal(signal.SIGINT)
        tracing.wait(20)
    synced = [
        (float(at), path) for at, path in re.findall(r"^\d+ ([0-9.]+) fd?a?t?a?sync\(\d+<([^>]+)>", calls.read_text(), re.MULTILINE)
    ]
    assert [path for at, path in synced if begin <= at <= end and "/database/" in path and "log" in Path(path).name], synced
