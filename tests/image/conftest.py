"""The root of a node, as scripts/build-root made it; nothing is booted here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """target/root, made now when it is not there; SIGNALBOX_ROOT names another."""
    path = Path(os.environ.get("SIGNALBOX_ROOT") or REPOSITORY / "target/root")
    if not (path / "usr/lib/systemd/systemd").exists():
        subprocess.run([REPOSITORY / "scripts/build-root", "--output", path], check=True)
    return path
