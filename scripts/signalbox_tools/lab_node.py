"""One node of the lab: its cgroup, its process, its life and its sudden death."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import lab_network, lab_state
from .cli import REPOSITORY, ROOT, HostError, quiet
from .lab_state import Node

CGROUP = "signalbox-lab"

RUNNER = "signalbox_tools.lab_runner"
"""The program behind each node."""


def hierarchies() -> list[Path]:
    """The cgroup trees that systemd uses: one on today's systems, two where the old tree is still mounted."""
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        return [top]
    return [tree for tree in (top / "unified", top / "systemd") if tree.is_dir()]


def cgroups(one: Node) -> list[Path]:
    """The node's own cgroup in each tree. Without one per node, all nodes would share one."""
    return [tree / CGROUP / one.name for tree in hierarchies()]


def make_cgroups(one: Node) -> None:
    """Make the node's cgroups: `runner` for the process that watches over it, `node` for the node itself."""
    for group in cgroups(one):
        for part in ("runner", "node"):
            (group / part).mkdir(parents=True, exist_ok=True)
        for level in (group.parent.parent, group.parent, group):
            control = level / "cgroup.subtree_control"
            for controller in ("cpu", "memory", "pids"):
                # Not every machine has every controller; limits are then not enforced, and nothing else changes.
                try:
                    control.write_text(f"+{controller}")
                except OSError:
                    pass


def processes(one: Node) -> set[int]:
    """Every process of the node, its runner included."""
    found: set[int] = set()
    for group in cgroups(one):
        # Cgroups vanish while we look; os.walk does not mind.
        for folder, _, _ in os.walk(group):
            try:
                found.update(int(word) for word in Path(folder, "cgroup.procs").read_text().split())
            except OSError:
                continue
    # A cgroup tree of a container lists processes that it cannot see as 0.
    return found - {0}


def leader(one: Node) -> int | None:
    """The node's PID 1 as the host numbers it, if the node runs."""
    pid = lab_state.entry(one).get("leader_pid")
    if not pid:
        return None
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return None
    # The number may belong to somebody else by now.
    return pid if f"/{CGROUP}/{one.name}/" in groups + "/" else None


def power_cut(one: Node) -> None:
    """End every process of the node at once, as a power cut does."""
    for group in cgroups(one):
        try:
            (group / "cgroup.kill").write_text("1")
        except OSError:
            continue
    deadline = time.monotonic() + 20
    while left := processes(one):
        if time.monotonic() > deadline:
            raise HostError(f"{one.name}: processes {sorted(left)} do not end.")
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
    remove_cgroups(one)
    lab_state.update(one.name, leader_pid=None)


def remove_cgroups(one: Node) -> None:
    """Remove the node's cgroups, innermost first."""
    for group in cgroups(one):
        for folder, _, _ in os.walk(group, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                pass  # A process that is just ending; the next `up` tries again.


def shut_down(one: Node, seconds: float = 60) -> None:
    """Ask the node to shut down in order, and pull the plug when it does not."""
    runner = lab_state.entry(one).get("runner_pid")
    if runner in processes(one):
        os.kill(runner, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while processes(one) and time.monotonic() < deadline:
            time.sleep(0.05)
    power_cut(one)


def prepare(one: Node, size: str | None = None) -> None:
    """Give the node its empty /etc layer and its own copy of the root's /var, on a disk of its own if that has a size."""
    unmount(one)
    shutil.rmtree(one.folder, ignore_errors=True)
    one.etc.mkdir(parents=True)
    one.var.mkdir()
    if size:
        quiet("truncate", "--size", size, str(one.disk))
        quiet("mkfs.ext4", "-q", "-m", "0", str(one.disk))
        mount(one)
    subprocess.run(["cp", "-a", "--reflink=auto", f"{ROOT}/var/.", one.var], check=True)
    (one.etc / "hostname").write_text(f"{one.name}\n")


def start(one: Node) -> None:
    """Power the node on. Returns as soon as its PID 1 runs."""
    if leader(one):
        return
    power_cut(one)
    for leftover in one.folder.glob(".#etc*"):
        # The overlay's work folder of an earlier boot.
        shutil.rmtree(leftover)
    mount(one)
    lab_network.attach(one)
    make_cgroups(one)
    with open(one.console, "ab") as console:
        runner = subprocess.Popen(
            [sys.executable, "-m", RUNNER, one.name],
            cwd=REPOSITORY / "scripts",
            stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
        )
    deadline = time.monotonic() + 30
    while not leader(one):
        if runner.poll() is not None or time.monotonic() > deadline:
            raise HostError(f"{one.name} does not start. Its console says:\n{tail(one.console)}")
        time.sleep(0.05)


def mount(one: Node) -> None:
    """Put the node's own disk in its place, if it has one."""
    if one.disk.exists() and not one.var.is_mount():
        quiet("mount", "-o", "loop", str(one.disk), str(one.var))


def unmount(one: Node) -> None:
    """Take the node's own disk out of its place; the node does not run."""
    if one.var.is_mount():
        quiet("umount", str(one.var))


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a file."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def enter(one: Node) -> list[str]:
    """The words that, before a command, run it inside the node's namespaces.

    Such a command keeps the host's capabilities, and the clock has no namespace: only for our own fixed commands.
    What a person or a test asks for goes through `lab_exec.command`.
    """
    pid = leader(one)
    if pid is None:
        raise HostError(f"{one.name} does not run. Try: scripts/lab start {one.name}")
    return ["nsenter", "--target", str(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]


def elsewhere() -> Path | None:
    """The other folder whose lab runs on this machine, if there is one: the working directory of the processes that watch over
    its nodes. Nodes that nobody watches over any more, or whose folder is gone, are leftovers and nobody's lab."""
    for number in range(1, lab_state.MOST_NODES + 1):
        for pid in processes(Node(number)):
            try:
                if RUNNER.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    continue
                folder = Path(f"/proc/{pid}/cwd").readlink().parent
            except OSError:
                continue
            if folder != REPOSITORY and folder.is_dir():
                return folder
    return None


def clear() -> None:
    """End every node of any lab on this machine, those of a crashed run included."""
    for tree in hierarchies():
        top = tree / CGROUP
        for folder in top.iterdir() if top.is_dir() else []:
            if folder.is_dir():
                power_cut(Node(int(folder.name.removeprefix("node"))))
    for number in range(1, lab_state.MOST_NODES + 1):
        unmount(Node(number))
    for tree in hierarchies():
        try:
            (tree / CGROUP).rmdir()
        except OSError:
            pass
