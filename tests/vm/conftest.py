"""Virtual machines that boot the disk image; each is booted once and put back by a snapshot between tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from signalbox_tools import host  # noqa: E402
from signalbox_tools.vm import ALIVE  # noqa: E402
from signalbox_tools.vm_machine import Machine, Options  # noqa: E402

BOOT_SECONDS = 240
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


class Guest:
    """A machine with what tests ask of it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def run(self, script: str, *, data: bytes = b"", seconds: float = 60, check: bool = True) -> str:
        """Output of a shell script that runs as root in the machine."""
        status, out, error = self.machine.execute(script, data, seconds)
        text = out.decode(errors="replace")
        if check:
            assert status == 0, f"`{script}` ended with status {status}\n{text}{error.decode(errors='replace')}"
        return text

    def wait_until_up(self) -> None:
        """Until systemd says that all jobs are done."""
        self.machine.wait_for(ALIVE, BOOT_SECONDS)

    def boot_id(self) -> str:
        """Changes with each start of the kernel."""
        return self.run("cat /proc/sys/kernel/random/boot_id").strip()

    def restarted(self, before: str, seconds: float = BOOT_SECONDS) -> None:
        """Waits until the machine has started again since `before` (a boot id), and is up."""
        self.machine.wait_for(f'[ "$(cat /proc/sys/kernel/random/boot_id)" != {before} ]', seconds)
        self.wait_until_up()

    def slot(self) -> str:
        """The slot that runs."""
        return self.run("tr ' ' '\\n' </proc/cmdline | sed -n 's/^signalbox.slot=//p'").strip()

    def boot_environment(self) -> dict[str, str]:
        """GRUB's environment."""
        text = self.run("mount -o ro /dev/disk/by-partlabel/esp /efi && grub-editenv /efi/grubenv list; umount /efi")
        return dict(line.split("=", 1) for line in text.splitlines())

    def set_boot_environment(self, *pairs: str) -> None:
        """Changes GRUB's environment."""
        self.run(f"mount /dev/disk/by-partlabel/esp /efi && grub-editenv /efi/grubenv set {' '.join(pairs)} && umount /efi && sync")


def _boot(name: str, firmware: str, answers: Path | None = None) -> Guest:
    machine = Machine(f"test-{name}")
    if machine.pid():
        machine.power_cut()  # what a test run that was killed left
    machine.create(Options(firmware=firmware, answers=answers))
    machine.start()
    guest = Guest(machine)
    guest.wait_until_up()
    return guest


def _end(guest: Guest) -> None:
    if guest.machine.pid():
        guest.machine.power_cut()
    guest.machine.remove()


@pytest.fixture(scope="session")
def bios_machine(image):
    """A machine with BIOS, not set up."""
    guest = _boot("bios", "bios")
    guest.machine.human(f"savevm {FRESH}")
    yield guest
    _end(guest)


@pytest.fixture(scope="session")
def uefi_machine(image):
    """A machine with UEFI, not set up."""
    guest = _boot("uefi", "uefi")
    guest.machine.human(f"savevm {FRESH}")
    yield guest
    _end(guest)


def _fresh(guest: Guest) -> Guest:
    if guest.machine.pid():
        guest.machine.human(f"loadvm {FRESH}")
    else:
        guest.machine.start(FRESH)
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
