"""The Debian tree below the image: made by mmdebstrap from image/packages.txt, cached by what goes into it.

The tree holds the build tools too (boot loader, file system tools): it is the chroot in which the image is made,
so that its bytes come from the locked release and not from the machine that builds.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from . import host, image_config
from .host import HostError, output, run, say
from .image_config import CACHE, SUITE, Locked

# Raise it when this file changes what the tree holds in a way that the inputs below do not show.
FORMAT = 1

# Left out at installation: an appliance has no manual reader. Copyright files stay, licences ask for it.
EXCLUDED = (
    "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/bug/*",
    "/usr/share/lintian/*", "/usr/share/linda/*", "/usr/share/bash-completion/*", "/usr/share/zsh/*", "/usr/share/fish/*",
    "/usr/share/grub/*.pf2",
)
INCLUDED = ("/usr/share/doc/*/copyright",)

# No initramfs at installation: ours is made by image_initramfs. Debian's own generator is only a dependency.
SETUP_HOOK = 'mkdir -p "$1/etc/initramfs-tools" && echo update_initramfs=no >"$1/etc/initramfs-tools/update-initramfs.conf"'
# What dpkg installed, with the hash apt checked each file against.
LIST_HOOK = """chroot "$1" dpkg-query -W -f '${Package} ${Version} ${Architecture}\\n' >"$1/packages.versions" """


def _key() -> str:
    """Names the cache: a hash of all that decides the tree's content."""
    digest = hashlib.sha256()
    for path in (image_config.IMAGE / "packages.txt", image_config.LOCK):
        digest.update(path.read_bytes() if path.exists() else b"none")
        digest.update(b"\0")
    digest.update(repr((FORMAT, EXCLUDED, INCLUDED, SETUP_HOOK, image_config.epoch())).encode())
    return digest.hexdigest()[:16]


def _sources() -> list[str]:
    mirror = host.mirror()
    lines = [f"deb {mirror.main} {SUITE} main", f"deb {mirror.main} {SUITE}-updates main"]
    if mirror.security:
        lines.append(f"deb {mirror.security} {SUITE}-security main")
    else:
        say("Warning: this machine's apt configuration names no security mirror; the root is built without security updates.")
    return lines


def build(folder: Path, *, pinned: bool = True) -> None:
    """Makes a new tree in `folder`/tree and the list of its packages in `folder`/packages."""
    host.need_root()
    host.need(["mmdebstrap", "debian-archive-keyring", "apt-utils"])
    listed = image_config.packages()
    temporary = folder.with_name(folder.name + ".new")
    remove(temporary)
    temporary.mkdir(parents=True)
    tree = temporary / "tree"
    preferences = temporary / "preferences"
    pins = image_config.read_lock() if pinned else {}
    preferences.write_text(
        "".join(f"Package: {entry.name}\nPin: version {entry.version}\nPin-Priority: 1001\n\n" for entry in pins.values()),
        encoding="ascii",
    )
    command = [
        "mmdebstrap", "--mode=root", "--variant=essential", "--format=directory",
        f"--include={','.join(listed.root + listed.build)}",
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Retries "3"',
        f'--aptopt=Dir::Etc::Preferences "{preferences}"',
        *[f"--aptopt={option}" for option in host.apt_proxy_options()],
        *[f"--dpkgopt=path-exclude={path}" for path in EXCLUDED],
        *[f"--dpkgopt=path-include={path}" for path in INCLUDED],
        "--dpkgopt=force-confold",
        f"--setup-hook={SETUP_HOOK}",
        f"--customize-hook={LIST_HOOK}",
        f"--customize-hook=copy-out /var/lib/apt/lists {temporary}",
        SUITE, str(tree), *_sources(),
    ]
    say(f"Building the Debian {SUITE} tree with mmdebstrap (half a minute to a few minutes) …")
    environment = dict(os.environ, SOURCE_DATE_EPOCH=str(image_config.epoch()), INITRD="No", LC_ALL="C.UTF-8", TZ="UTC")
    log = CACHE / "mmdebstrap.log"
    with open(log, "wb") as handle:
        result = run(*command, env=environment, stdout=handle, stderr=subprocess.STDOUT, check=False)
    if result.returncode != 0:
        remove(temporary)
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])
        raise HostError(
            f"{last}\nmmdebstrap ended with status {result.returncode}; all of its messages are in {log}. "
            "Is the mirror of this machine's apt configuration reachable, and does it carry Debian 13 (trixie)?"
        )
    _write_list(temporary, tree)
    shutil.rmtree(temporary / "lists", ignore_errors=True)
    preferences.unlink()
    remove(folder)
    temporary.rename(folder)


def _hashes(lists: Path, wanted: set[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
    """SHA256 per (package, version, architecture) from the signed package indices that apt used."""
    found: dict[tuple[str, str, str], str] = {}
    for path in sorted(lists.iterdir()):
        if not re.search(r"_Packages(\.\w+)?$", path.name):
            continue
        text = output("/usr/lib/apt/apt-helper", "cat-file", path)
        for stanza in text.split("\n\n"):
            fields = dict(
                line.split(": ", 1) for line in stanza.splitlines() if line.startswith(("Package: ", "Version: ", "Architecture: ", "SHA256: "))
            )
            if len(fields) == 4:
                key = (fields["Package"], fields["Version"], fields["Architecture"])
                if key in wanted:
                    found.setdefault(key, fields["SHA256"])
    return found


def _write_list(folder: Path, tree: Path) -> None:
    versions = tree / "packages.versions"
    wanted = {tuple(line.split()) for line in versions.read_text(encoding="ascii").splitlines()}
    versions.unlink()
    hashes = _hashes(folder / "lists", wanted)
    missing = [key for key in wanted if key not in hashes]
    if missing:
        raise HostError(f"the mirror's package index does not name {missing[0][0]} {missing[0][1]}; run `apt-get update` and try again")
    entries = sorted((Locked(*key, hashes[key]) for key in wanted), key=lambda entry: entry.name)
    (folder / "packages").write_text("".join(entry.line() + "\n" for entry in entries), encoding="ascii")


def ensure() -> Path:
    """The cached tree for today's inputs, made when it is not there. Returns the folder with `tree` and `packages`."""
    folder = CACHE / f"base-{_key()}"
    with host.lock("base"):
        if not (folder / "packages").exists():
            for old in sorted(CACHE.glob("base-*")):
                remove(old)
            build(folder)
    return folder


def differences(folder: Path) -> list[str]:
    """How the tree's packages differ from the committed lock, one sentence each; empty when they do not."""
    locked = image_config.read_lock()
    if not locked:
        return ["there is no image/packages.lock"]
    actual = image_config.parse_lock((folder / "packages").read_text(encoding="ascii"))
    found = []
    for name in sorted(locked.keys() | actual.keys()):
        old, new = locked.get(name), actual.get(name)
        if old == new:
            continue
        if old is None:
            found.append(f"{name}: not in the lock, installed is {new.version}")
        elif new is None:
            found.append(f"{name}: locked at {old.version}, no longer installed")
        elif old.version != new.version:
            found.append(f"{name}: locked at {old.version}, the mirror has {new.version}")
        else:
            found.append(f"{name} {new.version}: the file's SHA256 is {new.sha256[:16]}…, locked is {old.sha256[:16]}…")
    return found


def write_lock(folder: Path, now: int) -> None:
    """Makes the tree's packages the committed lock."""
    text = (folder / "packages").read_text(encoding="ascii")
    header = (
        "# Every Debian package that goes into the image or makes it: name, version, architecture, SHA256 of the .deb.\n"
        "# Written by `scripts/build-image --update-lock`; verified by every build. The epoch dates all files of the image.\n"
        f"# epoch {now}\n"
    )
    image_config.LOCK.write_text(header + text, encoding="ascii")


def enter(tree: Path, *command, binds: dict[Path, str] | None = None, **options) -> subprocess.CompletedProcess:
    """Runs a command inside a tree, with /proc and the given folders of the host, in a mount namespace of its own.

    The mounts end with the command, however it ends.
    """
    script = 'tree=$1; shift; mount -t proc proc "$tree/proc"; while [ "$1" != -- ]; do mount --bind "$1" "$tree/$2"; shift 2; done; shift; exec chroot "$tree" "$@"'
    pairs = [str(part) for source, target in (binds or {}).items() for part in (source, target.lstrip("/"))]
    return run("unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "enter", tree, *pairs, "--", *command, **options)


def remove(path: Path) -> None:
    """Removes a tree, never across a mount."""
    if path.exists():
        run("rm", "--recursive", "--force", "--one-file-system", path)


def check(folder: Path, *, strict: bool) -> None:
    """Compares the tree with the committed lock: an error when strict, else a warning that names what differs."""
    found = differences(folder)
    if not found:
        return
    text = "\n".join(f"  {line}" for line in found)
    if strict:
        raise HostError(
            f"the mirror's packages are not those of image/packages.lock:\n{text}\n"
            "A point release or security update has replaced them. Build with --unlocked to take what the mirror has, "
            "or run `scripts/build-image --update-lock` and commit the new lock."
        )
    shown = "\n".join(text.splitlines()[:5])
    more = f"\n  … and {len(found) - 5} more" if len(found) > 5 else ""
    say(f"Warning: not built from the locked packages; the result is not byte-identical to other builds:\n{shown}{more}")
