"""The lab as the tests see it: only through `scripts/lab` and the network."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LAB = REPOSITORY / "scripts/lab"


def eventually(what: str, look, seconds: float = 30, every: float = 0.1):
    """Call `look` until it returns something true, and return that. `what` is said when it never does."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s still not: {what} (last seen: {seen!r})")
        time.sleep(every)


class Lab:
    """`scripts/lab`."""

    def command(self, *words: str, capture: bool = True, seconds: float = 120, **options) -> subprocess.CompletedProcess:
        """Run `scripts/lab WORDS`; it must succeed."""
        done = self.attempt(*words, capture=capture, seconds=seconds, **options)
        assert done.returncode == 0, f"lab {' '.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    def attempt(self, *words: str, capture: bool = True, seconds: float = 120, **options) -> subprocess.CompletedProcess:
        """Run `scripts/lab WORDS`, which may fail."""
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([LAB, *words], capture_output=capture, text=True, timeout=seconds, check=False, **options)

    @property
    def json(self) -> dict:
        """lab.json."""
        return json.loads((REPOSITORY / "target/lab/lab.json").read_text())

    def status(self) -> dict:
        """`status --json`."""
        return json.loads(self.command("status", "--json").stdout)

    def node(self, name: str) -> Node:
        """One of its nodes."""
        return Node(self, name)


class Node:
    """One node of the lab."""

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
        return json.loads(self.cli(*words, "--json"))

    def reaches(self, address: str) -> bool:
        """Whether one ping is answered."""
        return self.attempt("ping", "-q", "-c", "1", "-W", "1", address).returncode == 0
