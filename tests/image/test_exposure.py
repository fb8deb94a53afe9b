"""How much each service could do if it were taken over, by systemd's own measure."""

from __future__ import annotations

import subprocess

import pytest
from signalbox_tools.host import REPOSITORY
from signalbox_tools.image_base import enter

LIMIT = 1.6


def serves() -> list[str]:
    """Every unit that serves: those of the catalogue, and the supervisor. Set-up and the console that asks its
    questions act as root by what they are, and are not there for anybody on the network."""
    texts = {path.name: path.read_text() for path in (REPOSITORY / "units").glob("*.service")}
    return sorted(name for name, text in texts.items() if "[X-Signalbox]" in text or "\nUser=sb-" in text)


@pytest.mark.parametrize("name", serves())
def test_exposure_is_low(root, name):
    unit = root / "usr/lib/systemd/system" / name
    assert unit.read_text() == (REPOSITORY / "units" / name).read_text(), "target/root is older than the units: scripts/build-root"
    done = enter(
        root, "systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={LIMIT * 10:.0f}", name,
        env={"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )
    print(done.stdout)
    verdict = [line for line in done.stdout.splitlines() if "Overall exposure level" in line]
    assert len(verdict) == 1, done.stdout
    assert float(verdict[0].split(": ")[1].split()[0]) <= LIMIT, done.stdout
    assert done.returncode == 0, "systemd-analyze itself finds it too exposed"
