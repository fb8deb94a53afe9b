"""What is said while services come up."""

from __future__ import annotations

import pytest

from signalbox_tools import lab_services
from signalbox_tools.lab_services import Progress, Service
from signalbox_tools.lab_state import Node


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """The lines, without the node's name and the time."""
    lines: list[str] = []
    monkeypatch.setattr(lab_services, "say", lambda text: lines.append(text.partition(" s  ")[2].strip()))
    return lines


class Clock:
    """A time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def service(name: str, state: str, reason: str = "") -> Service:
    return Service(name, state, "network", True, reason, "")


def test_each_service_is_told_when_it_is_up_and_changes_of_reasons_are_not(said):
    clock = Clock()
    progress = Progress(Node(1), clock)
    for step in range(20):
        clock.now = step * 0.3
        states = [service("web", "STARTED"), service("router", "STARTING", f"step {step}")]
        progress.show("starting", states if step < 12 else [service(one.id, "STARTED") for one in states])
    assert said == ["starting", "up     web", "up     router"]


def test_after_some_silence_the_one_that_waits_longest_is_told_once(said):
    clock = Clock()
    progress = Progress(Node(1), clock)
    for step in range(100):
        clock.now = step * 0.3
        progress.show("starting", [
            service("web", "STARTED"),
            service("agent", "STARTING", f"step {step}"),
            service("router", "STARTING", "waits for the database" if clock.now < 16 else "reads its configuration"),
        ])
    told = [line for line in said if "router" in line]
    assert told == ["waits  router, STARTING: waits for the database", "waits  router, STARTING: reads its configuration"]
    assert len(said) <= 2 + 30 / lab_services.QUIET


def test_a_node_that_is_up_already_is_told_in_one_line(said):
    Progress(Node(1), Clock()).show("up", [service("web", "STARTED"), service("router", "STARTED")])
    assert said == ["up"]
