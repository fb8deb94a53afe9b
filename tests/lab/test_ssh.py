"""The administrator over SSH: the command line and nothing else; nobody else at all."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time

import pytest

OPTIONS = [
    "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
    "-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1", "-o", "ConnectTimeout=10",
]


@pytest.fixture
def ssh(lab, node, tmp_path):
    """Runs ssh with a password: `ssh("utils service list")`."""
    admin = lab.json["admin"]
    helper = tmp_path / "askpass"
    helper.write_text('#!/bin/sh\nprintf "%s\\n" "$PASSWORD_FOR_TEST"\n')
    helper.chmod(0o700)

    def call(*words: str, user: str = admin["user"], password: str = admin["password"], start: bool = False, options=(),
             address: str = node.address, **more):
        environment = {**os.environ, "SSH_ASKPASS": str(helper), "SSH_ASKPASS_REQUIRE": "force", "PASSWORD_FOR_TEST": password}
        line = ["ssh", *OPTIONS, *options, f"{user}@{address}", *words]
        if start:
            return subprocess.Popen(line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60, check=False, **more)

    return call


def test_a_command_over_ssh(ssh):
    done = ssh("utils service list")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^Cisco XCP Router\[STARTED\]", done.stdout, re.MULTILINE)
    assert ssh("utils service start Nobody").returncode == 1


def test_the_session_that_scripts_hold(ssh, node):
    """A terminal, the prompt `admin:`, pagination off, one command after the other."""
    session = ssh(start=True, options=("-tt",))
    heard = b""

    def expect(pattern: bytes, seconds: float = 20) -> bytes:
        nonlocal heard
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, heard)):
            assert time.monotonic() < deadline, heard
            if select.select([session.stdout], [], [], 0.2)[0]:
                data = os.read(session.stdout.fileno(), 65536)
                assert data, heard
                heard += data
        before, heard = heard[:found.end()], heard[found.end():]
        return before

    def command(line: bytes) -> bytes:
        session.stdin.write(line + b"\n")
        session.stdin.flush()
        return expect(rb"admin:\s*(\x1b\[[0-9;?]*[a-zA-Z])*$")

    try:
        expect(rb"admin:")
        command(b"set cli pagination off")
        assert b"Cisco XCP Router[STARTED]" in command(b"utils service list")
        assert b"Active Master Version" in command(b"show version active")
        session.stdin.write(b"file tail activelog journal/audit.log 1 --follow\n")
        session.stdin.flush()
        expect(rb"An administrative action was taken")
        node.cli("users", "list")
        expect(rb"An administrative action was taken")
        session.stdin.write(b"\x03")
        session.stdin.flush()
        expect(rb"admin:\s*(\x1b\[[0-9;?]*[a-zA-Z])*$")
        session.stdin.write(b"exit\n")
        session.stdin.flush()
        assert session.wait(20) == 0
    finally:
        session.kill()
        session.wait()


@pytest.mark.parametrize("line", ["cat /etc/passwd", "sh", "/bin/sh -c id", "utils service list; id", "$(id)", "utils service list && id", "`id`"])
def test_there_is_no_shell(ssh, line):
    done = ssh(line)
    assert "uid=" not in done.stdout + done.stderr
    assert "root:" not in done.stdout + done.stderr


def test_no_file_transfer_and_no_forwarding(ssh, node, tmp_path):
    done = ssh("-s", "sftp", input="", stdin=None)
    assert done.returncode != 0
    forwarded = ssh("-N", options=("-o", "ExitOnForwardFailure=yes", "-W", "127.0.0.1:22"))
    assert forwarded.returncode != 0
    assert "SSH-2.0" not in forwarded.stdout


@pytest.mark.parametrize("user, password", [("root", ""), ("root", "root"), ("admin", ""), ("admin", "admin"), ("sb-web", ""), ("nobody", "")])
def test_nobody_else_gets_in(ssh, lab, user, password):
    # The other node: sshd makes an address wait that failed often, and later tests come from the same one.
    done = ssh("utils service list", user=user, password=password, address=lab.node("node2").address)
    assert done.returncode == 255
    assert "denied" in done.stderr.lower()
