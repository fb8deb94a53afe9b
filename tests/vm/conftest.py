"""Virtual machines that boot the disk image.

Without acceleration a machine takes all of a small host: only one runs at a time, and what a boot would only repeat
starts from a snapshot.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from guest import Guest, make

from signalbox_tools import host
from signalbox_tools.vm_machine import Options

FRESH = "fresh"


def pytest_addoption(parser):
    """`--vm-full`: more of what is only sampled otherwise."""
    parser.addoption("--vm-full", action="store_true", help="50 power cuts instead of 5")


@pytest.fixture(scope="session")
def image() -> Path:
    """target/image/signalbox.qcow2, made now when it is not there."""
    path = Options.image
    if not path.exists():
        subprocess.run([host.REPOSITORY / "scripts/build-image", "--unlocked"], check=True)
    host.need_qemu()
    return path


class Fresh:
    """A machine with BIOS that is not set up, as it was right after its first boot. It has a disk for answers, without any."""

    def __init__(self) -> None:
        self.guest = Guest(make("bios", "bios", blank=True))
        self.guest.wait_until_up()
        self.identity = self.guest.identity()
        self.guest.machine.human(f"savevm {FRESH}")
        self.end()

    def get(self) -> Guest:
        """The machine, running."""
        self.guest.machine.restore(FRESH)
        return self.guest

    def end(self) -> None:
        """Switches it off: it is not fresh any more, and others want the processors."""
        if self.guest.machine.pid():
            self.guest.machine.power_cut()


@pytest.fixture(scope="session")
def fresh(image):
    """The machine and its snapshot."""
    made = Fresh()
    yield made
    made.guest.machine.destroy()


@pytest.fixture(scope="module")
def untouched(fresh):
    """The fresh machine for tests that only look."""
    yield fresh.get()
    fresh.end()


@pytest.fixture
def bios(fresh):
    """The fresh machine for one test, which may do with it what it likes."""
    yield fresh.get()
    fresh.end()
