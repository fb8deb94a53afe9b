"""Running commands inside a node, the way its own PID 1 runs a service."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time

from . import lab_node
from .lab_state import Node


def command(one: Node, words: list[str], *, user: str | None = None, terminal: bool = False) -> tuple[list[str], str]:
    """The command line that runs `words` inside the node, and the name of the unit that they run in.

    The node's PID 1 starts them, with the node's capabilities: a command that only entered the namespaces
    would keep the host's, and could move the host's clock. By default systemd describes the unit by its whole command line,
    and writes that into the node's journal; an argument may be a password.
    """
    unit = f"lab-exec-{os.getpid()}-{time.monotonic_ns()}"
    line = [*lab_node.enter(one), "systemd-run", "--quiet", "--collect", "--wait", "--service-type=exec", f"--unit={unit}"]
    line.append("--description=A command from outside the node")
    line.append("--pty" if terminal else "--pipe")
    if user:
        line.append(f"--uid={user}")
    else:
        line.append("--setenv=HOME=/root")
    return [*line, "--", *words], unit


def end(one: Node, process: subprocess.Popen, unit: str) -> None:
    """End a command that was interrupted.

    Its unit is stopped until systemd-run, which waits for the unit, has ended: a systemd-run that is just starting has
    no unit yet to be stopped, and would make one behind the back of whoever killed it.
    """
    while process.poll() is None and lab_node.leader(one):
        subprocess.run([*lab_node.enter(one), "systemctl", "stop", unit], capture_output=True, check=False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)


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
        # Control-C is for us alone, and not before we know what to end: what is blocked here stays blocked there.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        process = subprocess.Popen(line, stdin=standard_input)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            return process.wait()
        except KeyboardInterrupt:
            end(one, process, unit)
            raise
    finally:
        if relay:
            relay.kill()
            relay.wait()
