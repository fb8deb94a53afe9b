"""Whether this machine can have a lab: tried with the host's own programs, none of the tree's parts under test.

What fails here is the machine's doing. What fails later is ours.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from .cli import HostError, quiet
from .host import need

NAME = "signalbox-probe"
PACKAGES = ["systemd-container", "iproute2", "nftables", "util-linux", "busybox-static"]
SECONDS = 60

RULES = "add table bridge probe\nadd chain bridge probe forward { type filter hook forward priority 0; }\n"


def reason() -> str | None:
    """Why there can be no lab, if so. Leaves nothing behind."""
    if os.geteuid() != 0:
        return "it needs root"
    try:
        need(PACKAGES)
        with tempfile.TemporaryDirectory(prefix=NAME) as folder:
            tree = Path(folder)
            for each in ("bin", "etc", "usr", "var"):
                (tree / each).mkdir()
            quiet("cp", "/bin/busybox", str(tree / "bin/busybox"))
            (tree / "etc/os-release").write_text("ID=probe\n")
            (tree / "usr/probe").touch()
            quiet("ip", "netns", "add", NAME)
            inside = ["nsenter", f"--net=/run/netns/{NAME}"]
            quiet(*inside, "ip", "link", "add", "br0", "type", "bridge")
            quiet(*inside, "ip", "link", "add", "name", "one", "type", "veth", "peer", "name", "two")
            quiet(*inside, "nft", "-f", "-", input=RULES)
            quiet(
                "systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "--directory", folder, "--machine", NAME,
                f"--network-namespace-path=/run/netns/{NAME}", "--resolv-conf=off", "--timezone=off", "/bin/busybox", "true",
                timeout=SECONDS,
            )
    except (HostError, OSError, subprocess.TimeoutExpired) as error:
        return " ".join(str(error).split())[-300:]
    finally:
        quiet("ip", "netns", "delete", NAME, check=False)
    return None
