"""The root file system of a node: the Debian tree without its build tools, with rootfs/, the units and the binary."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

from . import host, image_base, image_config, root
from .host import HostError, run, say
from .image_base import enter
from .image_config import ROOTFS, UNITS

# Empty folders the node mounts something on.
MOUNT_POINTS = ("data", "efi", "proc", "sys", "dev", "run", "tmp", "var", "home")

# What installation leaves behind and a node must not have: unique, secret, or of no use on an immutable root.
LEFTOVERS = (
    "boot", "vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old",
    "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-", "etc/.pwd.lock",
    "etc/apt", "etc/dpkg", "etc/kernel", "etc/kernel-img.conf", "etc/initramfs-tools", "etc/grub.d", "etc/cron.d", "etc/cron.daily",
    "etc/default/grub", "etc/init.d", "etc/rc0.d", "etc/rc1.d", "etc/rc2.d", "etc/rc3.d", "etc/rc4.d", "etc/rc5.d", "etc/rc6.d", "etc/rcS.d",
    "etc/runit", "etc/sv", "etc/ufw", "etc/update-motd.d", "etc/motd", "etc/hostname", "etc/resolv.conf", "etc/logrotate.d", "etc/debconf.conf",
    "etc/ucf.conf", "etc/adduser.conf", "etc/deluser.conf", "etc/xml", "etc/sgml",
    "usr/lib/grub", "usr/lib/dpkg", "usr/share/grub", "usr/share/perl5", "usr/share/doc-base", "usr/games", "usr/src", "usr/include",
    "usr/lib/x86_64-linux-gnu/perl-base", "root/.ssh", "root/.gnupg",
)


def stage(base: Path, folder: Path, binary: Path) -> None:
    """Makes the root in `folder`, an empty place next to the cache: files of the Debian tree are hard links to it."""
    tree = base / "tree"
    image_base.remove(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "--archive", "--link", tree, folder)
    _remove_packages(folder)
    _prune_modules(folder)
    _clear_state(folder)
    _drop_privileged_bits(folder)
    _overlay(folder, binary)
    _finish(folder)


def _listed(folder: Path, package: str) -> list[str]:
    information = folder / "var/lib/dpkg/info"
    for name in (f"{package}.list", f"{package}:amd64.list"):
        if (information / name).exists():
            return (information / name).read_text(encoding="utf-8").splitlines()
    return []


def _real(folder: Path, path: str) -> Path:
    """`/lib/x` of a package list is `/usr/lib/x` in the tree."""
    first = path.lstrip("/").split("/", 1)
    if first[0] in ("bin", "sbin", "lib", "lib64"):
        return folder / "usr" / path.lstrip("/")
    return folder / path.lstrip("/")


def _remove_packages(folder: Path) -> None:
    """Removes the files of [build] and [drop] packages, then the folders that this leaves empty."""
    listed = image_config.packages()
    gone = set(listed.build) | set(listed.drop)
    gone |= {path.stem for path in (folder / "var/lib/dpkg/info").glob("linux-image-*.list")}
    folders = set()
    for package in sorted(gone):
        for line in _listed(folder, package):
            if any(line == keep or (keep.endswith("/") and (line + "/").startswith(keep)) for keep in _kept(listed.keep)):
                continue
            path = _real(folder, line)
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.is_dir():
                folders.add(path)
    for path in sorted(folders, key=lambda entry: len(entry.parts), reverse=True):
        if path.parts[len(folder.parts):] in {(name,) for name in MOUNT_POINTS}:
            continue
        try:
            path.rmdir()
        except OSError:
            pass  # shared with a package that stays
    # What stays of the database is for scanners that look for known weaknesses; the test of the image reads it too.
    status = folder / "var/lib/dpkg/status"
    kept = [stanza for stanza in status.read_text(encoding="utf-8").split("\n\n") if not _names(stanza, gone)]
    place = folder / "usr/share/signalbox/packages"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("\n\n".join(kept), encoding="utf-8")


def _kept(keep: tuple[str, ...]) -> set[str]:
    return set(keep) | {entry.removeprefix("/usr") for entry in keep if entry.startswith("/usr/lib")}


def _names(stanza: str, packages: set[str]) -> bool:
    head = stanza.split("\n", 1)[0]
    return head.removeprefix("Package: ") in packages and not head.startswith("Package: linux-image")


def _prune_modules(folder: Path) -> None:
    for kernel in (folder / "usr/lib/modules").iterdir():
        for entry in image_config.dropped_modules():
            path = kernel / "kernel" / entry
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
        for index in kernel.glob("modules.*"):
            if index.name not in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
                index.unlink()  # a hard link to the cache: depmod must write new files
        enter(folder, "depmod", kernel.name)


def _clear_state(folder: Path) -> None:
    for name in LEFTOVERS:
        path = folder / name
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
    for path in (folder / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    # Everything below /var belongs to the data partition; systemd-tmpfiles makes what is needed there.
    for name in ("var", "run", "tmp", "etc/systemd/system", "etc/systemd/user", "media", "mnt", "opt", "srv"):
        for path in sorted((folder / name).iterdir()):
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            else:
                shutil.rmtree(path)
    for name in MOUNT_POINTS:
        (folder / name).mkdir(exist_ok=True)
    (folder / "tmp").chmod(0o1777)
    # Empty, not missing: the node makes its own at its first boot, and systemd does not take that for a first boot
    # on which every unit's preset is to be applied again.
    _write(folder / "etc/machine-id", "", 0o444)


def _drop_privileged_bits(folder: Path) -> None:
    """No program of a node gives its caller another user's rights; what needs rights is started with them by systemd."""
    for path in sorted((folder / "usr").rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        status = path.stat()
        if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
            content = path.read_bytes()
            path.unlink()  # the mode belongs to the file, and the file may be a hard link into the cache
            path.write_bytes(content)
            path.chmod(stat.S_IMODE(status.st_mode) & 0o755 | 0o044)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Writes a new file; never through a hard link into the cache."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _lay(source: Path, target: Path, left_out: frozenset[str]) -> None:
    """Lays the files of a repository folder over a folder of the tree; never writes through a hard link into the cache.

    A drop-in folder that is a link becomes a folder: systemd 257 does not look into the link.
    """
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        place = target / relative
        if relative.parts[0] in left_out:
            continue
        if path.is_symlink() and path.is_dir() and path.name.endswith(".d"):
            place.mkdir(exist_ok=True)
            place.chmod(0o755)
            _lay(path.resolve(), place, frozenset())
        elif path.is_symlink():
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            place.unlink(missing_ok=True)
            place.symlink_to(os.readlink(path))
        elif path.is_dir():
            if not place.is_dir():
                place.mkdir()
                place.chmod(0o755)
        else:
            place.unlink(missing_ok=True)
            shutil.copyfile(path, place)
            # Only "executable or not" comes from the repository: a umask must not change the image.
            place.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


def _overlay(folder: Path, binary: Path) -> None:
    _lay(ROOTFS, folder, frozenset({"README.md"}))
    _lay(UNITS, folder / "usr/lib/systemd/system", frozenset({"README.md", "missing.toml", "common.d"}))
    target = folder / "usr/bin/signalbox"
    shutil.copyfile(binary, target)
    target.chmod(0o755)
    (folder / "usr/bin/signalbox-cli").symlink_to("signalbox")


def _finish(folder: Path) -> None:
    """Users, presets and caches, by the tree's own tools."""
    environment = {"PATH": "/usr/sbin:/usr/bin", "SOURCE_DATE_EPOCH": str(image_config.epoch()), "SYSTEMD_LOG_LEVEL": "warning", "LC_ALL": "C.UTF-8"}
    for name in ("passwd", "group", "shadow", "gshadow"):
        path = folder / "etc" / name
        if path.exists():  # cut the hard link before a tool opens the file
            content, mode = path.read_bytes(), path.stat()
            path.unlink()
            path.write_bytes(content)
            os.chown(path, mode.st_uid, mode.st_gid)
            path.chmod(stat.S_IMODE(mode.st_mode))
    for command in (
        ["systemd-sysusers"],
        ["systemctl", "--root=/", "preset-all"],
        ["systemctl", "--root=/", "--global", "preset-all"],
    ):
        result = enter(folder, *command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if result.returncode != 0:
            raise HostError(f"`{' '.join(command)}` failed in the root:\n{result.stdout}")
        for line in result.stdout.splitlines():
            if not any(usual in line for usual in ("Created symlink", "Removed ", " is masked", "Creating user", "Creating group")):
                say(f"  {command[0]}: {line}")
    for name in ("etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/.pwd.lock", "etc/.updated", "var/.updated"):
        (folder / name).unlink(missing_ok=True)
    for path in folder.rglob("__pycache__"):
        shutil.rmtree(path)


def update(source: Path, target: Path) -> None:
    """Makes `target` equal to `source`, changing only what differs: nodes of the lab may run from it."""
    host.need(["rsync"])
    target.mkdir(parents=True, exist_ok=True)
    run("rsync", "--archive", "--xattrs", "--acls", "--delete", "--delete-delay", "--one-file-system", f"{source}/", f"{target}/")


def find_binary(profile: str, given: str | None) -> Path:
    """The signalbox binary to put into the root: the one that is given, otherwise built from the tree as it is now."""
    if given is None:
        return root.build_binary(profile)
    path = Path(given)
    if not path.is_file():
        raise HostError(f"--binary {given}: no such file")
    return path


def strip(binary: Path, folder: Path) -> Path:
    """The binary without debug information (function names stay, for backtraces): a tenth of a development build."""
    host.need(["binutils"])
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "signalbox.stripped"
    run("objcopy", "--strip-debug", binary, target)
    return target
