"""Two nodes that stand in for each other, and what is seen of them."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime

from node import Lab, Node, eventually

NORMAL = ("Normal", "Normal")
SILENT = ("Unknown", "Not Heard")
BY_HAND = "On Admin Request"
BACKUP = "Running in Backup Mode"
FAILED_OVER = "Failed Over"
SICK = "Failed Over with Critical Services Not Running"


class Line:
    """What is told of a scenario."""

    def __init__(self, name: str):
        self.name = name
        self.begin = time.time()
        self.detection = self.takeover = None
        self.account = None
        """What became of the messages, where people talked."""

    def __str__(self) -> str:
        times = f"detection {self.detection:.2f} s, takeover {self.takeover:.2f} s" if self.takeover is not None else "nobody took over"
        return f"{self.name}: {times}" + (f", {self.account}" if self.account else "")


class Pair:
    """Node 1 and node 2."""

    def __init__(self, lab: Lab):
        self.lab = lab
        self.one, self.two = lab.node("node1"), lab.node("node2")
        self.figures: list[Line] = []

    def states(self, node: Node) -> tuple[tuple[str, str], tuple[str, str]]:
        """State and reason of node 1 and node 2, as one of them sees it."""
        status = node.cli_json("utils", "ha", "status")
        one, two = ((each["state"], each["reason"]) for each in status["nodes"])
        return one, two

    def until(self, node: Node, one: tuple[str, str], two: tuple[str, str], seconds: float = 30) -> None:
        """Wait until a node sees both so."""
        last = []

        def seen() -> bool:
            last[:] = [self.try_states(node)]
            return last[0] == (one, two)

        try:
            eventually("the states", seen, seconds)
        except AssertionError:
            history = node.cli("utils", "ha", "history")
            raise AssertionError(f"{node.name} sees {last}, not {(one, two)} after {seconds} s. Its history:\n{history}") from None

    def try_states(self, node: Node):
        """The same, or nothing while the recovery manager is away."""
        try:
            return self.states(node)
        except AssertionError:
            return None

    def normal(self, seconds: float = 60) -> None:
        """Wait until both nodes see both in order."""
        for node in (self.one, self.two):
            self.until(node, NORMAL, NORMAL, seconds)

    def restore(self) -> None:
        """Bring both nodes up and their users home. Three failovers within an hour begin a hold, which a request ends."""
        for node in (self.one, self.two):
            if node.entry["leader_pid"] is None:
                self.lab.command("start", node.name, seconds=240)
        deadline = time.monotonic() + 120
        while True:
            seen = self.try_states(self.one)
            if seen == (NORMAL, NORMAL) and self.try_states(self.two) == seen:
                held = [node for node in (self.one, self.two) if node.cli_json("utils", "ha", "status")["held"]]
                if not held:
                    return
                for node in held:
                    node.attempt_cli("utils", "ha", "failover", node.name)
                    other = self.two if node == self.one else self.one
                    eventually("the other serves everybody, and it is idle", lambda: (
                        self.serves(other, other) == ["node1", "node2"] and "Idle" in [state for state, _ in self.try_states(node) or ()]
                    ), 30)
                    node.cli("utils", "ha", "fallback", node.name)
                    self.normal()
            assert time.monotonic() < deadline, f"it does not come back by itself: {seen}"
            for node, state in zip((self.one, self.two), seen or ()):
                if state[0] in ("Idle", FAILED_OVER):
                    node.attempt_cli("utils", "ha", "fallback", node.name)
                elif state[0] == "Running in Failed Mode":
                    node.attempt_cli("utils", "ha", "recover", self.group(node))
            time.sleep(0.5)

    def group(self, node: Node) -> str:
        """The name of the group."""
        return node.cli_json("utils", "ha", "status")["group"]

    def serves(self, node: Node, who: Node) -> list[str]:
        """Whose users a node serves, as another sees it."""
        status = node.cli_json("utils", "ha", "status")
        return next(each["serves"] for each in status["nodes"] if each["name"] == who.name)

    def events(self, node: Node) -> list[dict]:
        """The event history of a node."""
        return node.cli_json("utils", "ha", "history")["events"]

    @contextlib.contextmanager
    def scenario(self, name: str, node: Node):
        """Note how long it took from here until a node began to take over, and until it had."""
        line = Line(name)
        before = len(self.events(node))
        yield line
        found = {}
        for event in self.events(node)[before:]:
            at = datetime.fromisoformat(event["at"]).timestamp()
            for word, state in (("detection", "Taking Over"), ("takeover", BACKUP)):
                if event["to"].startswith(state):
                    found.setdefault(word, at)
        if len(found) == 2:
            line.detection, line.takeover = found["detection"] - line.begin, found["takeover"] - found["detection"]
        self.figures.append(line)

    @contextlib.contextmanager
    def parameter(self, name: str, value: str, default: str):
        """A parameter of failover that has another value until the end."""
        self.one.cli("set", "parameter", "server-recovery-manager", name, value)
        try:
            yield
        finally:
            self.two.cli("set", "parameter", "server-recovery-manager", name, default)
