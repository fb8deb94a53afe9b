"""`scripts/bench`: what the node costs, measured side by side with prosody and ejabberd in one run.

Timings on a busy machine are noisy: read the ratios, and compare only within one run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Iterator, Protocol

from . import bench_measure, bench_peers, bench_table, host, lab_node, lab_state
from .bench_measure import Reading
from .cli import CARGO_TARGET, REPOSITORY, TARGET, HostError, lab, say
from .rust import need_cargo

OUTPUT = TARGET / "bench"
PEERS = ("prosody", "ejabberd")
P99_LIMIT_US = 50_000
PASSWORD = "bench-password"


class Server(Protocol):
    """A server under load."""

    name: str
    version: str
    address: str
    domain: str
    password: str
    ca: Path

    def read(self) -> Reading:
        """CPU and memory of its processes now."""


class OurNode:
    """The node of the lab: every process of ours in it counts, the Debian around it does not."""

    name = "signalbox"
    password = PASSWORD

    def __init__(self) -> None:
        state = lab_state.load()
        node = state["nodes"][0]
        self.address, self.domain = node["address"], node["domain"]
        self.ca = Path(state["ca"])
        self._leader = lab_node.leader(lab_state.known(node["name"]))
        self.version = lab("exec", node["name"], "--", "signalbox", "version").strip()

    def add_users(self, users: int) -> None:
        """Accounts load0, load1 …"""
        rows = "".join(f"load{index},{PASSWORD}\n" for index in range(users))
        lab("cli", "node1", "--", "users", "import", "/dev/stdin", input="user,password\n" + rows)

    def read(self) -> Reading:
        """CPU and memory of every `signalbox` process of the node."""
        return bench_measure.read(self._leader, lambda process: bench_measure.program(process).startswith("signalbox"))


@contextlib.contextmanager
def our_node(users: int, binary: Path) -> Iterator[OurNode]:
    """A lab node with the release build."""
    subprocess.run([REPOSITORY / "scripts/build-root", "--binary", binary], check=True)
    lab("up")
    try:
        node = OurNode()
        node.add_users(users)
        yield node
    finally:
        lab("down")


class Generator:
    """A run of the load generator, with readings of the server at the moments that it marks."""

    def __init__(self, server: Server, users: int, *words: str, mechanism: str = "plain") -> None:
        self._server = server
        self._process = subprocess.Popen(
            [
                CARGO_TARGET / "release/signalbox-load", "--host", server.address, "--domain", server.domain, "--ca", server.ca,
                "--password", server.password, "--users", str(users), "--mechanism", mechanism, *words,
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        self.events: dict[str, dict] = {}
        self.readings: dict[str, Reading] = {}

    def until(self, wanted: str) -> dict:
        """Follows the generator until it says `wanted`."""
        assert self._process.stdout
        for line in self._process.stdout:
            event = json.loads(line)
            self.readings[event["event"]] = self._server.read()
            self.events[event["event"]] = event
            if event["event"] == wanted:
                return event
        raise HostError(f"the load generator ended before {wanted!r}, with status {self._process.wait()}")

    def end(self) -> None:
        """Ends it: closing its input lets idle sessions go."""
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.read()
        self._process.wait()


def idle(server: Server, users: int) -> dict:
    """Memory that each idle session with TLS and presence adds."""
    before = server.read()
    generator = Generator(server, users, "idle")
    generator.until("idle")
    time.sleep(3)
    after = server.read()
    generator.end()
    return {"sessions": users, "kib_per_session": (after - before).memory / users / 1024, "mib_before": before.memory / 2**20}


def login(server: Server, users: int, mechanism: str) -> dict:
    """Logins a second with a whole TLS handshake, and their CPU time."""
    generator = Generator(server, users, "login", mechanism=mechanism)
    done = generator.until("logged-in")
    generator.end()
    cpu = (generator.readings["logged-in"] - generator.readings["login"]).cpu
    return {"mechanism": mechanism, "per_second": done["per_second"], "cpu_ms": 1000 * cpu / users}


def messages(server: Server, users: int, rate: int, seconds: int) -> dict:
    """1:1 messages at one rate: how they fared and what each cost."""
    generator = Generator(server, users, "messages", "--rate", str(rate), "--seconds", str(seconds))
    done = generator.until("done")
    generator.end()
    cpu = (generator.readings["measured"] - generator.readings["steady"]).cpu
    received = max(done["received"], 1)
    return {
        "rate": rate, "sent": done["sent"], "received": done["received"], "p50_ms": (done["p50_us"] or 0) / 1000,
        "p99_ms": (done["p99_us"] or 0) / 1000, "cpu_us": 1e6 * cpu / received,
        "held": done["received"] == done["sent"] > 0 and (done["p99_us"] or 0) <= P99_LIMIT_US,
    }


def measure(server: Server, options: argparse.Namespace) -> dict:
    """Everything about one server."""
    say(f"{server.name} {server.version}:")
    found = {"name": server.name, "version": server.version, "idle": idle(server, options.users)}
    say(f"  idle: {found['idle']['kib_per_session']:.1f} KiB a session")
    found["login"] = [login(server, options.users, mechanism) for mechanism in ("plain", "scram-sha1")]
    for one in found["login"]:
        say(f"  login {one['mechanism']}: {one['per_second']:.0f} a second, {one['cpu_ms']:.2f} ms of CPU each")
    found["messages"] = []
    for rate in options.rates:
        one = messages(server, options.users, rate, options.seconds)
        found["messages"].append(one)
        say(f"  {rate}/s: {one['received']} of {one['sent']}, p50 {one['p50_ms']:.1f} ms, p99 {one['p99_ms']:.1f} ms, {one['cpu_us']:.0f} µs of CPU each")
        if not one["held"]:
            break
    return found


def build() -> Path:
    """The release build of node and generator."""
    subprocess.run(["cargo", "build", "--release", "--package", "signalbox", "--package", "load"], cwd=REPOSITORY, check=True)
    return CARGO_TARGET / "release/signalbox"


def im(options: argparse.Namespace) -> int:
    """Idle sessions, logins and messages, for us and the peers."""
    host.need_root()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    binary = build()
    results = []
    with our_node(options.users, binary) as node:
        results.append(measure(node, options))
    if options.peers:
        bench_peers.prepare()
        for name in PEERS:
            with bench_peers.running(name, options.users) as peer:
                results.append(measure(peer, options))
    return finish("im", {"users": options.users, "servers": results, "machine": machine()}, bench_table.im)


def boot(options: argparse.Namespace) -> int:
    """Seconds from the kernel's start to all services up, size of the image, memory of the idle node."""
    host.need_root()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    from . import bench_boot  # the virtual machine's tools are only needed here

    return finish("boot", bench_boot.measure(options) | {"machine": machine()}, bench_table.boot)


def failover(options: argparse.Namespace) -> int:
    """How long people are away when their node is left or lost, for growing numbers of them."""
    host.need_root()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    from . import bench_failover

    return finish("failover", bench_failover.run(options, build()) | {"machine": machine()}, bench_table.failover)


def finish(name: str, result: dict, table) -> int:
    """Keeps the figures and prints the table."""
    result["date"] = time.strftime("%Y-%m-%d", time.gmtime())
    (OUTPUT / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    text = table(result)
    (OUTPUT / f"{name}.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


def machine() -> str:
    """The machine in a few words."""
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?")
    return f"{os.cpu_count()} × {model}"


def main() -> int:
    """The entry point of `scripts/bench`."""
    top = argparse.ArgumentParser(prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("im", help="idle sessions, logins and messages", description=im.__doc__)
    one.set_defaults(entry=im)
    one.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="prosody and ejabberd too (the default)")
    one.add_argument("--users", type=int, default=1000)
    one.add_argument("--seconds", type=int, default=10, help="length of each measurement of messages")
    one.add_argument(
        "--rates", type=lambda text: [int(part) for part in text.split(",")], default=[1000, 3000, 6000, 9000, 12000, 16000],
        help="messages a second, tried in turn until one is not held",
    )
    one = commands.add_parser("boot", help="boot time, image size, idle memory", description=boot.__doc__)
    one.set_defaults(entry=boot)
    one.add_argument("--firmware", choices=["bios", "uefi"], default="bios")
    one.add_argument("--profile", choices=["release", "dev"], default="release", help="how the binary is built; release makes the smallest image, too")
    one = commands.add_parser("failover", help="how long people are away when their node is left or lost", description=failover.__doc__)
    one.set_defaults(entry=failover)
    one.add_argument("--users", type=lambda text: [int(part) for part in text.split(",")], default=[100, 1000, 5000])
    one.add_argument("--rate", type=int, default=100, help="messages a second, all people together")
    options = top.parse_args()
    need_cargo()
    return options.entry(options)
