"""A clock of its own for a node's services. Containers have the host's clock, which nobody may touch: the services read theirs
through libfaketime, which adds what a file says. Monotonic time goes on as ever, as when a clock is set.
"""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path

from node import COMPANIONS, Node

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
"""The host's; a node that runs a newer libc can load it."""

FOLDER = "/var/lib/clock"
DROP_IN = f"""[Service]
ExecPaths={FOLDER}
Environment=LD_PRELOAD={FOLDER}/libfaketimeMT.so.1 FAKETIME_TIMESTAMP_FILE={FOLDER}/ahead
Environment=FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_CACHE_DURATION=1 FAKETIME_DISABLE_SHM=1
"""


def set_clock(node: Node, seconds: int) -> None:
    """From now on the clock of the node's services is so many seconds ahead."""
    node.run("sh", "-c", f"echo +{seconds} > {FOLDER}/new && mv {FOLDER}/new {FOLDER}/ahead")


@contextlib.contextmanager
def own_clock(node: Node):
    """All services of the node have a clock that can be set, until the end."""
    node.run("sh", "-c", f"mkdir -p {FOLDER} && base64 -d > {FOLDER}/libfaketimeMT.so.1", input=base64.b64encode(LIBRARY.read_bytes()).decode())
    set_clock(node, 0)
    folders = " ".join(f"/run/systemd/system/{name}.service.d" for name in [*node.services(), *COMPANIONS])
    restart = f"systemctl daemon-reload && systemctl restart signalbox.target {' '.join(f'{name}.service' for name in COMPANIONS)}"
    node.run("sh", "-c", f"mkdir -p {folders} && for each in {folders}; do cat > $each/90-clock.conf <<END\n{DROP_IN}END\ndone; {restart}", seconds=120)
    try:
        node.settle(90)
        yield
    finally:
        node.run("sh", "-c", f"for each in {folders}; do rm $each/90-clock.conf; done; {restart}", seconds=120)
        node.settle(90)
