"""A machine with what tests ask of it."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from signalbox_tools.vm import ALIVE  # noqa: E402
from signalbox_tools.vm_machine import Machine, Options  # noqa: E402

BOOT_SECONDS = 240


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


def boot(name: str, firmware: str, answers: Path | None = None) -> Guest:
    """A new machine, up."""
    machine = Machine(f"test-{name}")
    if machine.pid():
        machine.power_cut()  # what a test run that was killed left
    machine.create(Options(firmware=firmware, answers=answers))
    machine.start()
    guest = Guest(machine)
    guest.wait_until_up()
    return guest


def end(guest: Guest) -> None:
    """Nothing of the machine stays."""
    if guest.machine.pid():
        guest.machine.power_cut()
    guest.machine.remove()
