"""A log partition that fills up: it is told, the oldest logs go, and no more than needed."""

from __future__ import annotations

import contextlib

import pytest
from node import eventually

MONITOR = "log-partition-monitor"
LOW, HIGH = "LogPartitionLowWaterMarkExceeded", "LogPartitionHighWaterMarkExceeded"
SIZE = 64
"""Mebibytes of the partition. It is in memory: the machine's own disk is never filled."""

OURS = "/var/log/signalbox"
JOURNAL = "/var/log/journal/$(cat /etc/machine-id)"
ARCHIVED = f"{JOURNAL}/system@{{0:032x}}-{{0:016x}}-{{1:016x}}.journal"
"""A finished file of the journal, with the time of its first entry in microseconds."""

OLDEST, OLD, YOUNG, IN_USE = (f"{OURS}/{name}.log" for name in ("oldest", "old", "young", "in-use"))
JOURNAL_OLD = ARCHIVED.format(1, 1_600_000_000_000_000)
JOURNAL_YOUNG = ARCHIVED.format(2, 1_700_000_000_000_000)
JOURNAL_ACTIVE = f"{JOURNAL}/system.journal"
OTHERS = "/var/log/others.log"

FILES = [
    # The oldest of all, but not ours to remove, and not finished.
    (OTHERS, 28, "10 days ago"),
    (JOURNAL_ACTIVE, 4, "9 days ago"),
    (OLDEST, 2, "5 days ago"),
    (JOURNAL_OLD, 2, "4 days ago"),
    (OLD, 2, "3 days ago"),
    (YOUNG, 2, "2 days ago"),
    (JOURNAL_YOUNG, 2, "1 day ago"),
    (IN_USE, 16, "now"),
]
"""Path, mebibytes, and when it was written to last. Together they are between the low mark (90 %) and the high one (95 %)."""


@pytest.fixture
def partition(node):
    """A small partition of its own for the logs; the journal is kept in memory meanwhile."""
    try:
        node.run("sh", "-c", f"""
            set -e
            journalctl --relinquish-var
            mount -t tmpfs -o size={SIZE}M,mode=0755 logs /var/log
            systemd-tmpfiles --create --prefix=/var/log/signalbox --prefix=/var/log/journal
            mkdir -p "{JOURNAL}"
            systemctl restart {MONITOR}
        """)
        yield
    finally:
        node.run("sh", "-c", f"! mountpoint -q /var/log || umount --lazy /var/log; systemctl restart {MONITOR}; journalctl --flush")
        node.settle()
        # A request to shrink the journal that went with its monitor is none, and no failure.
        assert node.run("systemctl", "--failed", "--plain", "--no-legend") == ""


def alarms(node) -> set[str]:
    """The alarms about the log partition that are raised now."""
    return {alarm["id"] for alarm in node.cli_json("alarms", "list")["alarms"] if alarm["service"] == MONITOR} & {LOW, HIGH}


def write(node, path: str, mebibytes: float, when: str) -> None:
    """Add to a file, which was last written to then."""
    node.run("sh", "-c", f'head -c {int(mebibytes * 1048576)} /dev/urandom >> "{path}" && touch --date="{when}" "{path}"')


def left(node) -> set[str]:
    """Which of the files are still there."""
    script = "; ".join(f'! test -e "{path}" || echo {number}' for number, (path, _, _) in enumerate(FILES))
    return {FILES[int(number)][0] for number in node.run("sh", "-c", script).split()}


def used(node) -> int:
    """Percent of the partition in use, as its counter says."""
    counters = node.cli_json("show", "perf", "query", "class", "Partition")["counters"]
    return next(counter["value"] for counter in counters if counter["counter"] == "% Used")


def test_the_oldest_logs_go_before_the_partition_is_full(node, partition):
    everything = {path for path, _, _ in FILES}
    assert alarms(node) == set()
    for path, mebibytes, when in FILES:
        write(node, path, mebibytes, when)
    eventually("the low mark is told", lambda: alarms(node) == {LOW}, 30)
    assert 90 <= used(node) < 95
    assert left(node) == everything, "below the high mark nothing is purged"

    # A service writes on, past the high mark: 61.5 of 64 MiB. Three files are enough to be below the low mark again.
    write(node, IN_USE, 3.5, "now")
    gone = {OLDEST, JOURNAL_OLD, OLD}
    eventually("the oldest logs are gone", lambda: left(node) == everything - gone, 30)
    eventually("both alarms are over", lambda: alarms(node) == set(), 30)
    assert used(node) < 90
    purged = node.run("journalctl", "--no-pager", "-u", MONITOR, "-n", "20")
    assert "The oldest logs were purged." in purged, purged
    assert left(node) == everything - gone, "no more is purged than is needed"


def test_a_partition_that_others_fill_is_told_and_nothing_in_use_is_purged(node, partition):
    write(node, OTHERS, 58, "10 days ago")
    write(node, JOURNAL_ACTIVE, 2, "9 days ago")
    write(node, IN_USE, 2, "now")
    eventually("both marks are told", lambda: alarms(node) == {LOW, HIGH}, 30)
    text = next(alarm["text"] for alarm in node.cli_json("alarms", "list")["alarms"] if alarm["id"] == HIGH)
    assert "something else fills it" in text
    assert left(node) == {OTHERS, JOURNAL_ACTIVE, IN_USE}
    node.run("rm", OTHERS)
    eventually("both alarms are over", lambda: alarms(node) == set(), 30)
