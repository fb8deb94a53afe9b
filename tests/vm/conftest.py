"""Virtual machines that boot the disk image; each is booted once and put back by a snapshot between tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from guest import REPOSITORY, Guest, boot, end

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
        subprocess.run([REPOSITORY / "scripts/build-image", "--unlocked"], check=True)
    host.need_qemu()
    return path


@pytest.fixture(scope="session")
def bios_machine(image):
    """A machine with BIOS, not set up."""
    guest = boot("bios", "bios")
    guest.machine.human(f"savevm {FRESH}")
    yield guest
    end(guest)


@pytest.fixture(scope="session")
def uefi_machine(image):
    """A machine with UEFI, not set up."""
    guest = boot("uefi", "uefi")
    guest.machine.human(f"savevm {FRESH}")
    yield guest
    end(guest)


def _fresh(guest: Guest) -> Guest:
    guest.machine.restore(FRESH)
    return guest


@pytest.fixture
def bios(bios_machine) -> Guest:
    """The BIOS machine as it was right after its first boot."""
    return _fresh(bios_machine)


@pytest.fixture
def uefi(uefi_machine) -> Guest:
    """The UEFI machine as it was right after its first boot."""
    return _fresh(uefi_machine)


@pytest.fixture(params=["bios", "uefi"])
def guest(request) -> Guest:
    """Each of the two."""
    return request.getfixturevalue(request.param)
