"""How much each of our units could do if it were taken over, by systemd's own measure."""

from __future__ import annotations

import subprocess

import pytest
from signalbox_tools.host import REPOSITORY
from signalbox_tools.image_base import enter

SERVES = 1.6
"""Units that serve somebody: those of the catalogue, the supervisor, administration."""

OTHERS = {
    # Root, and a program that becomes login, for whoever stands before the machine.
    "signalbox-console@.service": 3.9,
    # Root while nothing listens: it makes accounts, keys and files of the system, mounts the disk with the answers, and asks
    # the publisher of the cluster that the node joins.
    "signalbox-setup.service": 2.8,
    # Root with one capability, for one small file that the supervisor left.
    "signalbox-network-change.service": 1.4,
    # Root without any.
    "signalbox-journal-vacuum.service": 0.7,
    # Scripts of the boot, without input from anybody. Root for the partition table and the size of the file system, before
    # anything is mounted that could be hidden from it; root for a mount of its own and the boot loader's variables.
    "signalbox-grow-data.service": 3.3,
    "signalbox-mark-good.service": 2.1,
}
"""The ceiling of each other unit of ours. They are nobody's to talk to; what their work needs is left to them."""

FOLDERS = [REPOSITORY / "units", REPOSITORY / "rootfs/usr/lib/systemd/system"]


def sources() -> dict[str, str]:
    """Every service unit of ours with its text."""
    return {path.name: path.read_text() for folder in FOLDERS for path in sorted(folder.glob("*.service"))}


def ceiling(name: str) -> float:
    """How exposed a unit may be; each has a ceiling, or the test of it fails."""
    text = sources()[name]
    if "[X-Signalbox]" in text or "\nUser=sb-" in text:
        assert name not in OTHERS
        return SERVES
    return OTHERS[name]


def test_every_ceiling_is_of_a_unit():
    assert set(OTHERS) <= set(sources())


@pytest.mark.parametrize("name", sorted(sources()))
def test_exposure_is_low(root, name):
    unit = root / "usr/lib/systemd/system" / name
    assert unit.read_text() == sources()[name], "target/root is older than the units: scripts/build-root"
    limit = ceiling(name)
    # A template is judged by an instance.
    done = enter(
        root, "systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={limit * 10:.0f}", name.replace("@.", "@tty1."),
        env={"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )
    print(done.stdout)
    verdict = [line for line in done.stdout.splitlines() if "Overall exposure level" in line]
    assert len(verdict) == 1, done.stdout
    assert float(verdict[0].split(": ")[1].split()[0]) <= limit, done.stdout
    assert done.returncode == 0, "systemd-analyze itself finds it too exposed"
