"""A slow link: frames between a node and the lab's bridge arrive late, and not faster than a rate.

```
node2's eth0 ═ node2 ─ bridge node2-link ─ tap node2-near ⋯ this program ⋯ tap node2-far ─ bridge br0
```

The kernel's own means for that (netem) are not on every machine, so a program passes the frames on. A tap takes and gives
whole frames with their checksums, however the node's kernel would have put them off.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import select
import struct
import subprocess
import sys
import time
from pathlib import Path

from . import lab_network
from .cli import HostError
from .lab_state import FOLDER, Node

BUFFER = 256 * 1024
"""Bytes that wait for their turn in one direction; what comes then is lost, as in a router."""

FAR = "-far"
"""Ends the name of a slow link's port on br0."""

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000


def names(one: Node) -> tuple[str, str, str]:
    """The bridge on the node's side of the link, and the link's two ends."""
    return f"{one.name}-link", f"{one.name}-near", f"{one.name}{FAR}"


def note(one: Node) -> Path:
    """Where the number of the program is."""
    return FOLDER / f"{one.name}-link.pid"


def slow(one: Node, milliseconds: float, megabits: float) -> None:
    """From now on every frame of the node takes so long, and both directions have that rate."""
    if any(one.name in pair for pair in cuts()):
        raise HostError(f"{one.name} is cut off from somebody, and the cut would not hold; `scripts/lab heal` first")
    heal(one)
    bridge, near, far = names(one)
    lab_network.in_lab("ip", "link", "add", bridge, "type", "bridge", "forward_delay", "0")
    lab_network.in_lab("ip", "link", "set", bridge, "up")
    program = subprocess.Popen(
        ["nsenter", f"--net={lab_network.RUN_NETNS / lab_network.LAB}", sys.executable, "-m", "signalbox_tools.lab_link", near, far, str(milliseconds), str(megabits)],
        cwd=Path(__file__).resolve().parent.parent, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, text=True,
    )
    note(one).write_text(str(program.pid))
    if program.stdout.readline() != "ready\n":
        heal(one)
        raise HostError(f"the link of {one.name} cannot be made slow; the program that does it ended")
    for port, master in ((near, bridge), (far, "br0"), (one.name, bridge)):
        lab_network.in_lab("ip", "link", "set", port, "master", master, "up")


def heal(one: Node) -> None:
    """The link is as fast as the machine again."""
    bridge, *_ = names(one)
    if lab_network.exists():
        lab_network.in_lab("ip", "link", "set", one.name, "master", "br0", check=False)
    end(note(one))
    if lab_network.exists():
        lab_network.in_lab("ip", "link", "delete", bridge, check=False)


def heal_all() -> None:
    """Every link is as fast as the machine, those of a crashed run included."""
    for path in FOLDER.glob("node*-link.pid"):
        heal(Node(int(path.name.removeprefix("node").removesuffix("-link.pid"))))


def end(path: Path) -> None:
    """End the program whose number stands there, if it is one of these."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(path.read_text())
        if b"signalbox_tools.lab_link" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, 15)
    path.unlink(missing_ok=True)


def port(name: str) -> str:
    """The port of br0 behind which a node is."""
    return f"{name}{FAR}" if (FOLDER / f"{name}-link.pid").exists() else name


def cuts() -> list[tuple[str, str]]:
    """The directions in which nothing passes, by the names of nodes, or `host`."""
    return [(first.removesuffix(FAR), second.removesuffix(FAR)) for first, second in lab_network.cuts()]


def tap(name: str) -> int:
    """A new interface, whose frames are read and written here."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    return device


def carry(near: int, far: int, delay: float, rate: float) -> None:
    """Pass frames on between two taps, each `delay` seconds late, `rate` bytes a second in each direction."""
    other = {near: far, far: near}
    free = {near: 0.0, far: 0.0}
    order = itertools.count()
    flying: list[tuple[float, int, int, bytes]] = []
    while True:
        wait = max(0.0, flying[0][0] - time.monotonic()) if flying else None
        for device in select.select([near, far], [], [], wait)[0]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame = os.read(device, 65536)
                    now = time.monotonic()
                    sent = max(now, free[device]) + len(frame) / rate
                    if (sent - now) * rate <= BUFFER:
                        free[device] = sent
                        heapq.heappush(flying, (sent + delay, next(order), other[device], frame))
        now = time.monotonic()
        while flying and flying[0][0] <= now:
            _, _, device, frame = heapq.heappop(flying)
            with contextlib.suppress(BlockingIOError, OSError):
                os.write(device, frame)


def main(near: str, far: str, milliseconds: str, megabits: str) -> None:
    """The program behind a slow link."""
    ends = tap(near), tap(far)
    print("ready", flush=True)
    carry(*ends, float(milliseconds) / 1000, float(megabits) * 1e6 / 8)


if __name__ == "__main__":
    main(*sys.argv[1:])
