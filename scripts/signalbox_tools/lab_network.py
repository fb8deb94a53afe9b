"""The lab's network: a bridge in a namespace of its own, one namespace per node, a wire to the host.

```
host ── sblab-host ═ host ┐
                          ├ bridge br0 (namespace signalbox-lab)
node1's eth0 ═════ node1 ─┘           (namespace signalbox-lab-node1 …)
```

Nothing leads out: the bridge's namespace has no route, and the host forwards nothing that comes from its end of the wire.
"""

from __future__ import annotations

from pathlib import Path

from .cli import quiet
from .lab_state import GATEWAY, HOST_ADDRESS, Node

LAB = "signalbox-lab"
HOST_LINK = "sblab-host"
TABLE = "cuts"
RUN_NETNS = Path("/run/netns")


def namespace(one: Node) -> str:
    """The name of the node's network namespace."""
    return f"{LAB}-{one.name}"


def namespace_path(one: Node) -> Path:
    """The file that systemd-nspawn joins."""
    return RUN_NETNS / namespace(one)


def in_lab(*command: str, **options):
    """Run a program in the bridge's namespace. `nsenter`, because `ip netns exec` mounts /sys anew."""
    return quiet("nsenter", f"--net={RUN_NETNS / LAB}", *command, **options)


def build() -> None:
    """Make the bridge and the wire to the host."""
    quiet("ip", "netns", "add", LAB)
    in_lab("ip", "link", "set", "lo", "up")
    in_lab("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
    # The router that the nodes are told of answers, and knows nowhere to go.
    in_lab("ip", "address", "add", f"{GATEWAY}/24", "dev", "br0")
    in_lab("ip", "link", "set", "br0", "up")
    quiet("ip", "link", "add", HOST_LINK, "type", "veth", "peer", "name", "host", "netns", LAB)
    in_lab("ip", "link", "set", "host", "master", "br0", "up")
    # Whatever the host does for others, it is no way out for a node.
    forwarding = Path(f"/proc/sys/net/ipv4/conf/{HOST_LINK}/forwarding")
    forwarding.write_text("0")
    Path(f"/proc/sys/net/ipv6/conf/{HOST_LINK}/disable_ipv6").write_text("1")
    quiet("ip", "address", "add", f"{HOST_ADDRESS}/24", "dev", HOST_LINK)
    quiet("ip", "link", "set", HOST_LINK, "up")


def attach(one: Node) -> None:
    """Give the node its namespace with an eth0 that hangs on the bridge."""
    name = namespace(one)
    if namespace_path(one).exists():
        return
    quiet("ip", "netns", "add", name)
    in_lab("ip", "link", "add", one.name, "type", "veth", "peer", "name", "eth0", "address", one.mac)
    in_lab("ip", "link", "set", "eth0", "netns", name)
    in_lab("ip", "link", "set", one.name, "master", "br0", "up")
    quiet("nsenter", f"--net={namespace_path(one)}", "ip", "link", "set", "lo", "up")


def clear() -> None:
    """Remove every trace of the lab's network, whoever left it."""
    quiet("ip", "link", "delete", HOST_LINK, check=False)
    if RUN_NETNS.is_dir():
        for entry in RUN_NETNS.iterdir():
            if entry.name == LAB or entry.name.startswith(f"{LAB}-"):
                quiet("ip", "netns", "delete", entry.name, check=False)


def cut(first: str, second: str, *, one_way: bool) -> None:
    """Let nothing pass from the first to the second; unless `one_way`, nor back. Names are ports of the bridge."""
    pairs = [(first, second)] if one_way else [(first, second), (second, first)]
    rules = "".join(f'add rule bridge {TABLE} forward iifname "{a}" oifname "{b}" drop\n' for a, b in pairs)
    in_lab("nft", "-f", "-", input=(
        f"add table bridge {TABLE}\n"
        f"add chain bridge {TABLE} forward {{ type filter hook forward priority 0; }}\n{rules}"
    ))


def heal() -> None:
    """Undo every cut."""
    in_lab("nft", "delete", "table", "bridge", TABLE, check=False)


def cuts() -> list[tuple[str, str]]:
    """The directions in which nothing passes, by ports of the bridge."""
    listed = in_lab("nft", "list", "table", "bridge", TABLE, check=False)
    words = [line.split() for line in listed.stdout.splitlines() if "drop" in line]
    return [(line[1].strip('"'), line[3].strip('"')) for line in words]


def exists() -> bool:
    """Whether the lab's bridge is there."""
    return (RUN_NETNS / LAB).exists()
