"""A machine with what tests ask of it."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from signalbox_tools import lab_services
from signalbox_tools.vm_machine import Machine, Options

ANSWERS = """
domain = "example.test"
security_password = "one-for-all-nodes"
time_zone = "Europe/Berlin"
[network]
hostname = "node1"
domain = "example.test"
address = "10.0.2.15/24"
gateway = "10.0.2.2"
[administrator]
user = "operator"
password = "only-for-this-test"
[certificate]
organization = "Example"
"""
"""Of a node that is set up unattended."""

BOOT_SECONDS = 240
UP = "systemctl is-system-running --wait | grep -Eq 'running|degraded'"


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
        """Until systemd says that all jobs are done, those of our services among them."""
        self.machine.wait_for(UP, BOOT_SECONDS)

    def start(self) -> None:
        """Starts the machine that is off, and waits until it is up."""
        self.machine.start()
        self.wait_until_up()

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

    def fill_slot_b(self) -> None:
        """Slot B becomes a copy of slot A that may be started; only as much as the file systems hold."""
        self.run("""
            part=/dev/disk/by-partlabel
            dd if=$part/kernel-a of=$part/kernel-b bs=1M count=32 conv=notrunc
            size=$(findmnt --noheadings --bytes --output SIZE --mountpoint /)
            dd if=$part/root-a of=$part/root-b bs=1M count=$((size / 1048576 + 1)) conv=notrunc
            sync
        """, seconds=120)
        self.set_boot_environment("B_OK=1")

    def wipe(self, partition: str) -> None:
        """Makes a partition unreadable."""
        self.run(f"dd if=/dev/zero of=/dev/disk/by-partlabel/{partition} bs=1M count=1 conv=fsync,notrunc")

    def boot_environment(self) -> dict[str, str]:
        """GRUB's environment."""
        text = self.run("mount -o ro /dev/disk/by-partlabel/esp /efi && grub-editenv /efi/grubenv list; umount /efi")
        return dict(line.split("=", 1) for line in text.splitlines())

    def set_boot_environment(self, *pairs: str) -> None:
        """Changes GRUB's environment."""
        self.run(f"mount /dev/disk/by-partlabel/esp /efi && grub-editenv /efi/grubenv set {' '.join(pairs)} && umount /efi && sync")

    def identity(self) -> list[str]:
        """What no two machines may have in common."""
        return self.run("cat /etc/machine-id; sha256sum </var/lib/systemd/random-seed").split()

    def assert_sound(self) -> None:
        """What is true of every node that has started, whatever its firmware."""
        assert self.run("systemctl --failed --plain --no-legend") == ""
        assert self.run("systemctl is-system-running").strip() == "running"
        sectors = int(self.run("cat /sys/class/block/vda/size"))
        end = sum(int(self.run(f"cat /sys/class/block/vda7/{name}")) for name in ("start", "size"))
        assert sectors - end < 4096, "the data partition fills the disk"
        size = int(self.run("findmnt --noheadings --bytes --output SIZE --mountpoint /data"))
        assert size > 6 << 30, "the file system was grown with its partition"
        environment = self.boot_environment()
        assert (environment["A_OK"], environment["A_TRY"]) == ("1", "0"), "the boot is marked good"
        assert "RuntimeWatchdogUSec=1min" in self.run("systemctl show --property=RuntimeWatchdogUSec")
        assert self.run("cat /sys/class/watchdog/watchdog0/state").strip() == "active", "the watchdog is fed"


class Node(Guest):
    """A machine that is set up, as administrators' commands and people's clients see it: by the ports of this host."""

    address = "127.0.0.1"

    def __init__(self, machine: Machine, domain: str) -> None:
        super().__init__(machine)
        self.domain = domain
        ports = machine.state()["ports"]
        self.xmpp, self.xmpps = ports["xmpp"], ports["xmpps"]
        self.ca = machine.folder / "ca.pem"
        self.ca.write_text(self.run("cat /etc/signalbox/certificates/ca/certificate.pem"))

    def cli(self, *words: str, data: bytes = b"") -> str:
        """What an administrator's command prints."""
        return self.run(f"signalbox cli {shlex.join(words)}", data=data, seconds=120)

    def assert_services_are_up(self) -> None:
        """Every service that has to be up is up, or comes up."""
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            _, out, _ = self.machine.execute(" ".join(lab_services.LIST), seconds=60)
            listed = lab_services.parse(out.decode()) or []
            late = [f"{service.id}: {service.state} {service.reason}" for service in listed if service.expected and not service.up]
            if listed and not late:
                return
            assert time.monotonic() < deadline, late or "the supervisor does not answer"
            time.sleep(1)


def make(name: str, firmware: str, answers: Path | None = None, *, blank: bool = False) -> Machine:
    """A new machine, started; with an empty disk for its answers if it has none."""
    machine = Machine(f"test-{name}")
    machine.destroy()  # what a test run that was killed left
    machine.create(Options(firmware=firmware, answers=answers, blank=blank))
    machine.start()
    return machine
