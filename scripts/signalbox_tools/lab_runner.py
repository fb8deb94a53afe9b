"""The process behind each node: runs systemd-nspawn, again after a reboot, and writes down the node's PID 1.

It is in the node's cgroup, so that a power cut ends it together with the node.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import lab_network, lab_node, lab_state
from .cli import ROOT, say
from .lab_state import Node

REBOOT = 133
"""systemd-nspawn's exit status when the node asked to be started again."""


def command(one: Node) -> list[str]:
    """How the node is booted: the image's own root, read-only, with its own /etc layer and /var."""
    return [
        "systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "--boot", "--machine", one.name,
        "--directory", str(ROOT), "--read-only",
        f"--overlay=+/etc:{one.etc}:/etc", f"--bind={one.var}:/var",
        f"--network-namespace-path={lab_network.namespace_path(one)}",
        # systemd-nspawn grants this by itself only when it makes the network namespace.
        "--capability=CAP_NET_ADMIN",
        "--console=read-only", "--link-journal=no", "--resolv-conf=off", "--timezone=off",
    ]


def boot(one: Node) -> subprocess.Popen:
    """Start systemd-nspawn in the node's cgroup."""
    join = "".join(f"echo $$ > {group}/node/cgroup.procs; " for group in lab_node.cgroups(one))
    environment = {
        **os.environ,
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
        # The node configures its own network, its sysctls included.
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
    }
    words = ["sh", "-c", f'{join}exec "$@"', "sh", *command(one)]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment)


def find_leader(nspawn: subprocess.Popen) -> int | None:
    """The child of systemd-nspawn that is process 1 of a namespace of its own."""
    while nspawn.poll() is None:
        children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()
        for pid in map(int, children):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            numbers = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
            if len(numbers) > 1 and numbers[-1] == "1":
                return pid
        time.sleep(0.01)
    return None


def main(name: str) -> int:
    """Keep the node running until it powers off; SIGTERM asks it to."""
    one = lab_state.node(name)
    for group in lab_node.cgroups(one):
        (group / "runner/cgroup.procs").write_text(str(os.getpid()))
    current: subprocess.Popen | None = None
    ending = False

    def end(*_):
        nonlocal ending
        ending = True
        if current:
            current.terminate()

    signal.signal(signal.SIGTERM, end)
    while True:
        current = boot(one)
        if ending:
            current.terminate()
        lab_state.update(name, leader_pid=find_leader(current), runner_pid=os.getpid())
        status = current.wait()
        lab_state.update(name, leader_pid=None)
        if ending or status != REBOOT:
            say(f"{name} ended with status {status}.")
            return 0
        say(f"{name} reboots.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
