"""Running commands inside a node, the way its own PID 1 runs a service."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time

from . import lab_node
from .lab_state import Node


def command(one: Node, words: list[str], *, user: str | None = None, terminal: bool = False) -> tuple[list[str], str]:
    """The command line that runs `words` inside the node, and the name of the unit that they run in.

    The node's PID 1 starts them, with the node's capabilities: a command that only entered the namespaces
    would keep the host's, and could move the host's clock.
    """
    unit = f"lab-exec-{os.getpid()}-{time.monotonic_ns()}"
    line = [*lab_node.enter(one), "systemd-run", "--quiet", "--collect", "--wait", "--service-type=exec", f"--unit={unit}"]
    line.append("--pty" if terminal else "--pipe")
    if user:
        line.append(f"--uid={user}")
    else:
        line.append("--setenv=HOME=/root")
    return [*line, "--", *words], unit


def stop(one: Node, unit: str) -> None:
    """Stop a unit that an interrupted command left behind."""
    subprocess.run([*lab_node.enter(one), "systemctl", "stop", unit], capture_output=True, check=False)


def reopenable_standard_input() -> tuple[int, subprocess.Popen | None]:
    """A standard input that another user may open again as /dev/stdin: a pipe that everybody may read."""
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        os.fchmod(0, 0o666)
        return 0, None
    reading, writing = os.pipe()
    os.fchmod(writing, 0o666)
    relay = subprocess.Popen(["cat"], stdin=0, stdout=writing)
    os.close(writing)
    return reading, relay


def run(one: Node, words: list[str], *, user: str | None = None) -> int:
    """Run a command in the node with our own standard input, output and error; return its exit status."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    line, unit = command(one, words, user=user, terminal=terminal)
    standard_input, relay = (0, None) if terminal or not user else reopenable_standard_input()
    try:
        return subprocess.run(line, stdin=standard_input, check=False).returncode
    except KeyboardInterrupt:
        stop(one, unit)
        raise
    finally:
        if relay:
            relay.kill()
            relay.wait()


def output(one: Node, words: list[str], *, user: str | None = None, seconds: float = 60) -> subprocess.CompletedProcess:
    """Run a command in the node with no input and its output captured."""
    line, unit = command(one, words, user=user)
    try:
        return subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        stop(one, unit)
        raise
