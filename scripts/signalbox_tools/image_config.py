"""The inputs of the image: package list, lock, disk layout. Everything fixed is written here, once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .host import REPOSITORY, TARGET, HostError

IMAGE = REPOSITORY / "image"
ROOTFS = REPOSITORY / "rootfs"
UNITS = REPOSITORY / "units"
CACHE = TARGET / "cache"
SUITE = "trixie"
LOCK = IMAGE / "packages.lock"

SECTOR = 512
MEBIBYTE = 1 << 20

# The time of every file in the image when neither the environment nor the lock names one.
DEFAULT_EPOCH = 1_760_000_000


@dataclass(frozen=True)
class Partition:
    """One entry of the partition table; sizes are multiples of 1 MiB."""

    number: int
    name: str
    type: str
    uuid: str
    mebibytes: int


DISK_UUID = "5B000000-0000-4000-8000-000000000000"
LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
# The first MiB is the partition table's. `data` comes last: the first boot grows it to the end of the disk.
PARTITIONS = (
    Partition(1, "bios", "21686148-6449-6E6F-744E-656564454649", "5B000000-0000-4000-8000-000000000001", 1),
    Partition(2, "esp", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "5B000000-0000-4000-8000-000000000002", 32),
    Partition(3, "kernel-a", LINUX, "5B000000-0000-4000-8000-000000000003", 64),
    Partition(4, "root-a", LINUX, "5B000000-0000-4000-8000-000000000004", 640),
    Partition(5, "kernel-b", LINUX, "5B000000-0000-4000-8000-000000000005", 64),
    Partition(6, "root-b", LINUX, "5B000000-0000-4000-8000-000000000006", 640),
    Partition(7, "data", LINUX, "5B000000-0000-4000-8000-000000000007", 512),
)
ESP_VOLUME = "5B000001"  # FAT serial number; GRUB finds its environment by it as 5B00-0001
DATA_UUID = "5b000000-0000-4000-8000-00000000d000"
DATA_HASH_SEED = "5b000000-0000-4000-8000-00000000d001"


def partition(name: str) -> Partition:
    """The partition of that name."""
    return next(entry for entry in PARTITIONS if entry.name == name)


def start_mebibyte(name: str) -> int:
    """Where the partition of that name begins."""
    position = 1
    for entry in PARTITIONS:
        if entry.name == name:
            return position
        position += entry.mebibytes
    raise KeyError(name)


def disk_mebibytes() -> int:
    """Size of the disk image: the partitions, a MiB before and one behind for the two partition tables."""
    return 2 + sum(entry.mebibytes for entry in PARTITIONS)


@dataclass(frozen=True)
class Packages:
    """image/packages.txt."""

    root: tuple[str, ...]
    build: tuple[str, ...]
    drop: tuple[str, ...]
    keep: tuple[str, ...]


def _lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def packages() -> Packages:
    """Reads the package list."""
    sections: dict[str, list[str]] = {"root": [], "build": [], "drop": []}
    keep: list[str] = []
    section = ""
    for line in _lines(IMAGE / "packages.txt"):
        if line.startswith("["):
            section = line.strip("[]")
            if section not in sections:
                raise HostError(f"image/packages.txt: unknown section [{section}]; use root, build or drop")
        elif line.startswith("keep "):
            keep.append(line.split()[1])
        else:
            sections[section].append(line)
    return Packages(tuple(sections["root"]), tuple(sections["build"]), tuple(sections["drop"]), tuple(keep))


def dropped_modules() -> list[str]:
    """image/modules.drop."""
    return _lines(IMAGE / "modules.drop")


@dataclass(frozen=True)
class Locked:
    """One line of image/packages.lock."""

    name: str
    version: str
    architecture: str
    sha256: str

    def line(self) -> str:
        """The line as it stands in the file."""
        return f"{self.name} {self.version} {self.architecture} {self.sha256}"


def parse_lock(text: str) -> dict[str, Locked]:
    """Package name → what the lock says of it."""
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            entry = Locked(*line.split())
            found[entry.name] = entry
    return found


def read_lock() -> dict[str, Locked]:
    """The committed lock; empty while there is none."""
    return parse_lock(LOCK.read_text(encoding="ascii")) if LOCK.exists() else {}


def epoch() -> int:
    """SOURCE_DATE_EPOCH of the build: the environment's, else the lock's."""
    if os.environ.get("SOURCE_DATE_EPOCH"):
        return int(os.environ["SOURCE_DATE_EPOCH"])
    if LOCK.exists():
        for line in LOCK.read_text(encoding="ascii").splitlines():
            if line.startswith("# epoch "):
                return int(line.split()[2])
    return DEFAULT_EPOCH
