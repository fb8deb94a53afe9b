"""Whether nodes can be booted on this machine: tried with a program that does nothing in place of a node's systemd.

What fails here is the machine's doing, not that of the tree under test.
"""

from __future__ import annotations

import shutil

from . import lab_network, lab_node, lab_runner
from .cli import HostError
from .lab_state import Node

PROBE = Node(0)
"""No node of any lab has this number."""


def reason() -> str | None:
    """Why no node can be booted here, if so. Needs the root, and leaves nothing behind."""
    if lab_network.exists():
        return None  # Nodes of a lab are there.
    try:
        lab_network.build()
        lab_network.attach(PROBE)
        lab_network.cut(PROBE.name, "host", one_way=False)
        lab_network.heal()
        lab_node.make_cgroups(PROBE)
        for folder in (PROBE.etc, PROBE.var):
            folder.mkdir(parents=True, exist_ok=True)
        container = lab_runner.boot(PROBE, "/usr/bin/true")
        status = container.wait(60)
        return None if status == 0 else f"systemd-nspawn ended with status {status}"
    except (HostError, OSError) as error:
        return " ".join(str(error).split())
    finally:
        lab_node.remove_cgroups(PROBE)
        lab_network.clear()
        shutil.rmtree(PROBE.folder, ignore_errors=True)
