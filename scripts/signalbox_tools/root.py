"""Building the binary and the root again when, and only when, something they are made of has changed."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from .cli import CARGO_TARGET, REPOSITORY, ROOT, TARGET
from .host import HostError
from .rust import need_cargo

BINARY = CARGO_TARGET / "debug/signalbox"
SOURCES = ["rootfs", "units", "image", "scripts/build-root", "scripts/signalbox_tools"]
"""What the root is made of besides the binary."""

STAMP = TARGET / "cache/root-made-from"


def build_binary(profile: str = "dev") -> Path:
    """Build the binary, by default in the profile that the tests use, too."""
    need_cargo()
    build = ["cargo", "build", "--locked", "-p", "signalbox", "--profile", profile]
    if subprocess.run(build, cwd=REPOSITORY, check=False).returncode != 0:
        raise HostError("the binary does not build; cargo has said why")
    return CARGO_TARGET / {"dev": "debug"}.get(profile, profile) / "signalbox"


def signature() -> str:
    """Changes whenever the root has to be made anew."""
    files = [BINARY, *(path for source in SOURCES for path in sorted(tree(REPOSITORY / source)))]
    digest = hashlib.sha256()
    for path in files:
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            digest.update(f"{path} {status.st_mtime_ns} {status.st_size} {status.st_mode}\n".encode())
        else:
            digest.update(f"{path} {path.readlink() if path.is_symlink() else 'folder'}\n".encode())
    return digest.hexdigest()


def tree(path: Path) -> list[Path]:
    """The file, or everything below the folder, compiled Python left out."""
    return [entry for entry in path.rglob("*") if "__pycache__" not in entry.parts] if path.is_dir() else [path]


def ensure() -> bool:
    """Build the binary, and make the root unless it is made from just these sources; answers whether it changed."""
    binary = build_binary()
    now = signature()
    if (ROOT / "usr").is_dir() and STAMP.exists() and STAMP.read_text() == now:
        return False
    if subprocess.run([REPOSITORY / "scripts/build-root", "--binary", binary], check=False).returncode != 0:
        raise HostError("the root was not made; scripts/build-root has said why")
    STAMP.parent.mkdir(parents=True, exist_ok=True)
    STAMP.write_text(now)
    return True
