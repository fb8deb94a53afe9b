"""The initramfs: busybox, e2fsck, the modules that reach the disk, and image/initramfs/init. Small, and the same bytes each time."""

from __future__ import annotations

import lzma
import stat
from dataclasses import dataclass, field
from pathlib import Path

from . import image_config
from .host import HostError, output, say
from .image_base import enter
from .image_config import IMAGE

FOLDERS = ("bin", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sys", "usr")
# Programs of busybox that /init and modprobe's callers name.
APPLETS = ("sh", "cat", "echo", "grep", "mkdir", "modprobe", "mount", "reboot", "sed", "sleep", "sort", "switch_root", "sync", "xargs")
PROGRAMS = ("usr/sbin/e2fsck",)


@dataclass
class Archive:
    """A cpio archive in the form the kernel reads ("newc"), entries sorted, no clock and no inode numbers of the host."""

    epoch: int
    entries: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def folder(self, name: str) -> None:
        """Adds a folder and those above it."""
        path = Path(name)
        for parent in [*reversed(path.parents), path]:
            if str(parent) != ".":
                self.entries.setdefault(str(parent), (stat.S_IFDIR | 0o755, b""))

    def file(self, name: str, content: bytes, mode: int = 0o755) -> None:
        """Adds a file."""
        self.folder(str(Path(name).parent))
        self.entries[name] = (stat.S_IFREG | mode, content)

    def link(self, name: str, target: str) -> None:
        """Adds a symbolic link."""
        self.entries[name] = (stat.S_IFLNK | 0o777, target.encode())

    def bytes(self) -> bytes:
        """The archive."""
        parts = []
        for number, name in enumerate(sorted(self.entries), 1):
            mode, content = self.entries[name]
            parts.append(self._entry(name, number, mode, content))
        parts.append(self._entry("TRAILER!!!", 0, 0, b""))
        data = b"".join(parts)
        return data + bytes(-len(data) % 512)

    def _entry(self, name: str, number: int, mode: int, content: bytes) -> bytes:
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (number, mode, 0, 0, links, self.epoch if mode else 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % value for value in fields) + name.encode() + b"\0"
        return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def _module_files(modules: Path) -> list[str]:
    """The files of image/initramfs/modules and of what they depend on, as paths below the modules' folder."""
    names: dict[str, str] = {}
    depends: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text(encoding="ascii").splitlines():
        path, _, needed = line.partition(":")
        depends[path] = needed.split()
        names[Path(path).name.split(".")[0].replace("-", "_")] = path
    builtin = {Path(line).name.split(".")[0].replace("-", "_") for line in (modules / "modules.builtin").read_text(encoding="ascii").splitlines()}
    wanted: set[str] = set()
    for line in (IMAGE / "initramfs/modules").read_text(encoding="ascii").splitlines():
        name = line.strip().replace("-", "_")
        if not name or name.startswith("#") or name in builtin:
            continue
        if name not in names:
            raise HostError(f"image/initramfs/modules names {line.strip()}, which the kernel does not have")
        wanted.add(names[name])
        wanted.update(depends[names[name]])
    return sorted(wanted)


def _libraries(tree: Path, program: str) -> list[str]:
    """The shared libraries a program of the tree needs, by its own loader."""
    found = []
    for line in output("chroot", tree, "ldd", "/" + program).splitlines():
        for word in line.split():
            if word.startswith("/"):
                found.append(word)
    return found


def build(base: Path, work: Path) -> Path:
    """Makes the initramfs in `work`/initrd."""
    tree = base / "tree"
    modules = next((tree / "usr/lib/modules").iterdir())
    archive = Archive(image_config.epoch())
    for name in FOLDERS:
        archive.folder(name)
    archive.file("init", (IMAGE / "initramfs/init").read_bytes())
    archive.file("bin/busybox", (tree / "usr/bin/busybox").read_bytes())
    for name in APPLETS:
        archive.link(f"bin/{name}", "busybox")
    for program in PROGRAMS:
        archive.file(f"bin/{Path(program).name}", (tree / program).read_bytes())
        for library in _libraries(tree, program):
            archive.file(library.lstrip("/"), (tree / library.lstrip("/")).read_bytes())
    files = _module_files(modules)
    place = f"lib/modules/{modules.name}"
    kept = set(files)
    for name in files:
        content = (modules / name).read_bytes()
        # Stored plain: one compression over the whole archive is smaller, and busybox has less to do.
        archive.file(f"{place}/{name.removesuffix('.xz')}", lzma.decompress(content) if name.endswith(".xz") else content, 0o644)
    lines = []
    for line in (modules / "modules.dep").read_text(encoding="ascii").splitlines():
        path, _, needed = line.partition(":")
        if path in kept:
            lines.append(f"{path}:{needed}".replace(".xz", ""))
    archive.file(f"{place}/modules.dep", ("\n".join(lines) + "\n").encode(), 0o644)
    aliases = [
        line for line in (modules / "modules.alias").read_text(encoding="utf-8").splitlines()
        if line.split()[-1].replace("-", "_") in {Path(name).name.split(".")[0].replace("-", "_") for name in files}
    ]
    archive.file(f"{place}/modules.alias", ("\n".join(aliases) + "\n").encode(), 0o644)
    work.mkdir(parents=True, exist_ok=True)
    (work / "initrd.cpio").write_bytes(archive.bytes())
    enter(tree, "zstd", "-q", "-f", "-15", "--rm", "/mnt/initrd.cpio", "-o", "/mnt/initrd", binds={work: "/mnt"})
    say(f"Initramfs: {(work / 'initrd').stat().st_size / 1e6:.1f} MB, {len(files)} modules.")
    return work / "initrd"
