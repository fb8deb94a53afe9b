"""The lab as the tests see it: only through `scripts/lab` and the network."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from person import Person, eventually, online, scene

__all__ = ["COMPANIONS", "Lab", "Node", "Person", "eventually", "online", "scene"]

REPOSITORY = Path(__file__).resolve().parents[2]
LAB = REPOSITORY / "scripts/lab"

COMPANIONS = ["signalbox-supervisor", "signalbox-administration"]
"""Ours, and no services of the catalogue: without them there is no word of the others."""


class Lab:
    """`scripts/lab`, this clone's or another's."""

    def __init__(self, script: Path = LAB):
        self.script = script

    def command(self, *words: str, capture: bool = True, seconds: float = 120, **options) -> subprocess.CompletedProcess:
        """Run `scripts/lab WORDS`; it must succeed."""
        done = self.attempt(*words, capture=capture, seconds=seconds, **options)
        assert done.returncode == 0, f"lab {' '.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    def attempt(self, *words: str, capture: bool = True, seconds: float = 120, **options) -> subprocess.CompletedProcess:
        """Run `scripts/lab WORDS`, which may fail."""
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([self.script, *words], capture_output=capture, text=True, timeout=seconds, check=False, **options)

    @property
    def json(self) -> dict:
        """lab.json."""
        return json.loads((self.script.parents[1] / "target/lab/lab.json").read_text())

    def status(self) -> dict:
        """`status --json`."""
        return json.loads(self.command("status", "--json").stdout)

    def node(self, name: str) -> Node:
        """One of its nodes."""
        return Node(self, name)


class Node:
    """One node of the lab."""

    xmpp, xmpps = 5222, 5223

    def __init__(self, lab: Lab, name: str):
        self.lab = lab
        self.name = name

    @property
    def entry(self) -> dict:
        """Its part of lab.json."""
        return next(entry for entry in self.lab.json["nodes"] if entry["name"] == self.name)

    @property
    def address(self) -> str:
        """Its IPv4 address."""
        return self.entry["address"]

    @property
    def domain(self) -> str:
        """Its XMPP domain."""
        return self.entry["domain"]

    @property
    def ca(self) -> str:
        """The file with the certificate that signed the node's own."""
        return self.entry["ca"]

    def run(self, *words: str, **options) -> str:
        """What a command prints in the node; it must succeed."""
        return self.lab.command("exec", self.name, "--", *words, **options).stdout

    def attempt(self, *words: str, **options) -> subprocess.CompletedProcess:
        """A command in the node that may fail."""
        return self.lab.attempt("exec", self.name, "--", *words, **options)

    def cli(self, *words: str, **options) -> str:
        """What an administrator's command prints; it must succeed."""
        return self.lab.command("cli", self.name, "--", *words, **options).stdout

    def attempt_cli(self, *words: str, **options) -> subprocess.CompletedProcess:
        """An administrator's command that may fail."""
        return self.lab.attempt("cli", self.name, "--", *words, **options)

    def cli_json(self, *words: str):
        """What an administrator's command answers to a program."""
        answer = json.loads(self.cli(*words, "--json"))
        assert answer["ok"], answer
        return answer["result"]

    def counters(self, kind: str) -> dict[str, int]:
        """Performance counters of a class by their names."""
        shown = self.cli("show", "perf", "query", "class", f'"{kind}"')
        return {name: int(value) for name, value in re.findall(r"->\s+(\w+)\s+= (\d+)$", shown, re.MULTILINE)}

    def reaches(self, address: str) -> bool:
        """Whether one ping is answered."""
        return self.attempt("ping", "-q", "-c", "1", "-W", "1", address).returncode == 0

    def services(self) -> dict[str, dict]:
        """Every service by its id, as the supervisor tells it."""
        return {service["id"]: service for service in self.cli_json("utils", "service", "list")["services"]}

    def state(self, service: str) -> str:
        """STARTED, STARTING, STOPPED, STOPPING or NOTRUNNING."""
        return self.services()[service]["state"]

    def units(self) -> dict[str, dict[str, str]]:
        """What systemd knows of each of our services, by id."""
        return self.show_units(*self.services(), *COMPANIONS)

    def unit(self, service: str) -> dict[str, str]:
        """What systemd knows of one of them."""
        return self.show_units(service)[service]

    def show_units(self, *services: str) -> dict[str, dict[str, str]]:
        """`systemctl show`: properties of each unit, by id."""
        names = [f"{name}.service" for name in services]
        wanted = "Id,ActiveState,MainPID,InvocationID,NRestarts,ActiveEnterTimestampMonotonic,InactiveEnterTimestampMonotonic"
        shown = self.run("systemctl", "show", f"--property={wanted}", *names)
        blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.strip().split("\n\n")]
        return {block["Id"].removesuffix(".service"): block for block in blocks}

    def running(self) -> dict[str, str]:
        """The main process of each service that runs: what stays the same when nothing of it was restarted."""
        return {name: unit["MainPID"] for name, unit in self.units().items() if unit["ActiveState"] == "active"}

    def main_pid(self, service: str) -> int:
        """The service's process, as the node numbers it; 0 when it has none."""
        return int(self.run("systemctl", "show", "--property=MainPID", "--value", service))

    def main_pids(self, *services: str) -> list[int]:
        """The same for several, in one call."""
        shown = self.run("systemctl", "show", "--property=MainPID", "--value", *services)
        return [int(word) for word in shown.split()]

    def all_up(self) -> bool:
        """Whether every network service and every activated feature service is up."""
        return all(
            service["state"] == "STARTED" for service in self.services().values()
            if service["kind"] != "feature" or service["activated"]
        )

    def settle(self, seconds: float = 60) -> None:
        """Wait until everything is up."""
        eventually("everything is up", self.all_up, seconds)
