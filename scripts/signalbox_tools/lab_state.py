"""What the lab remembers between two commands: folders, names, addresses, `lab.json`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

from .cli import TARGET, HostError

FOLDER = TARGET / "lab"
"""One folder per node, `lab.json` and the certificate of the nodes' CA."""

NETWORK = "10.201.7"
"""The first three parts of every address in the lab; /24."""

HOST_ADDRESS = f"{NETWORK}.1"
"""The host's own address on the lab's bridge."""

GATEWAY = f"{NETWORK}.254"
"""What the nodes are told is their router: the bridge itself, behind which there is nothing."""

DOMAIN = "signalbox.test"
"""The XMPP domain of a lab that was given no other."""

MOST_NODES = 9


@dataclass(frozen=True)
class Node:
    """One node: everything about it follows from its number."""

    number: int

    @property
    def name(self) -> str:
        """Host name, machine name and folder name."""
        return f"node{self.number}"

    @property
    def address(self) -> str:
        """The node's IPv4 address."""
        return f"{NETWORK}.{10 + self.number}"

    @property
    def mac(self) -> str:
        """A fixed hardware address, so that a node started again looks the same to its neighbours."""
        return f"02:53:42:00:00:{10 + self.number:02x}"

    @property
    def folder(self) -> Path:
        """Everything that is this node's own."""
        return FOLDER / self.name

    @property
    def etc(self) -> Path:
        """The upper layer of the node's /etc."""
        return self.folder / "etc"

    @property
    def var(self) -> Path:
        """The node's /var."""
        return self.folder / "var"

    @property
    def disk(self) -> Path:
        """The file system that its /var is, if the lab was given a size for it."""
        return self.folder / "var.ext4"

    @property
    def console(self) -> Path:
        """What the node wrote to its console."""
        return self.folder / "console.log"

    @property
    def ca(self) -> Path:
        """The certificate that signed the node's own, seen from the host."""
        return self.etc / "signalbox/certificates/ca/certificate.pem"


def node(name: str) -> Node:
    """The node of that name. A bare number will do."""
    digits = name.removeprefix("node")
    if not digits.isdigit() or not 1 <= int(digits) <= MOST_NODES:
        raise HostError(f"there is no node `{name}`. Nodes are called node1 to node{MOST_NODES}.")
    return Node(int(digits))


def nodes() -> list[Node]:
    """The nodes of the lab as it was last brought up."""
    return [node(entry["name"]) for entry in load().get("nodes", [])]


def known(name: str) -> Node:
    """The node of that name, which must be one of this lab's."""
    wanted = node(name)
    there = nodes()
    if wanted not in there:
        names = ", ".join(one.name for one in there)
        hint = f"It has {names}." if names else "It is not up. Try: scripts/lab up"
        raise HostError(f"the lab has no {wanted.name}. {hint}")
    return wanted


@contextlib.contextmanager
def locked():
    """Hold the lab's lock while `lab.json` is read and written: a node that reboots writes to it, too."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "lab.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def load() -> dict:
    """The contents of `lab.json`; empty when there is no lab."""
    try:
        return json.loads((FOLDER / "lab.json").read_text())
    except FileNotFoundError:
        return {}
    except json.JSONDecodeError:
        # Only a crash of the whole machine can leave this; `up` writes it anew.
        return {}


def save(content: dict) -> None:
    """Replace `lab.json` in one step. It holds a password, so only its owner may read it."""
    path = FOLDER / "lab.json"
    draft = path.with_suffix(".new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        json.dump(content, handle, indent=2)
        handle.write("\n")
    os.replace(draft, path)


def update(name: str, **fields) -> None:
    """Change fields of one node's entry in `lab.json`."""
    with locked():
        content = load()
        for entry in content.get("nodes", []):
            if entry["name"] == name:
                entry.update(fields)
                save(content)


def entry(one: Node) -> dict:
    """The node's entry in `lab.json`; empty when it has none."""
    return next((known for known in load().get("nodes", []) if known["name"] == one.name), {})
