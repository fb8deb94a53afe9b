"""What the machine that runs scripts/ must have: Debian packages, a mirror, QEMU from backports.

Everything that installs something on the host is here, so that one file tells what the scripts change on a machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, NoReturn

REPOSITORY = Path(__file__).resolve().parents[2]
TARGET = REPOSITORY / "target"
BACKPORTS_LIST = Path("/etc/apt/sources.list.d/signalbox-backports.list")


class HostError(Exception):
    """Something the person at the keyboard has to know; the message says what to do next."""


def main(function) -> NoReturn:
    """Runs a script's main function; errors meant for people are printed without a traceback."""
    try:
        sys.exit(function() or 0)
    except HostError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(1)
    except subprocess.CalledProcessError as error:
        command = error.cmd if isinstance(error.cmd, str) else " ".join(map(str, error.cmd))
        print(f"{Path(sys.argv[0]).name}: `{command[:300]}` ended with status {error.returncode}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


def say(text: str) -> None:
    """Progress for people; standard output stays for results."""
    print(text, file=sys.stderr, flush=True)


def run(*command, **options) -> subprocess.CompletedProcess:
    """`subprocess.run` with check=True; the command's own messages go where ours go, to standard error."""
    options.setdefault("check", True)
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("stdout", sys.stderr)
    return subprocess.run([str(part) for part in command], **options)


def output(*command, **options) -> str:
    """The command's standard output as text; fails when the command fails."""
    return run(*command, stdout=subprocess.PIPE, text=True, **options).stdout


def need_root() -> None:
    """Refuses to go on as an ordinary user."""
    if os.geteuid() != 0:
        raise HostError("this needs root (it makes file system trees and namespaces): run it with sudo")


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """One holder per NAME at a time on this machine; others wait. Released by the kernel when the process ends."""
    folder = TARGET / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "w", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Waiting for another script that holds target/locks/{name}.")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def release() -> tuple[str, str]:
    """ID and codename of the host, `("debian", "bookworm")`."""
    fields = {}
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        fields[key] = value.strip().strip('"')
    return fields.get("ID", ""), fields.get("VERSION_CODENAME", "")


def installed(package: str) -> str | None:
    """The installed version of a Debian package, or None."""
    result = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package],
        capture_output=True, text=True, check=False,
    )
    status, _, version = result.stdout.partition(" ")
    return version if status == "installed" else None


def _apt(*arguments: str) -> None:
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C.UTF-8")
    result = subprocess.run(
        ["apt-get", "-q=2", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=3", *arguments],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )
    if result.returncode != 0:
        raise HostError(f"apt-get {' '.join(arguments)} failed:\n{result.stdout[-2000:]}")


def need(packages: Iterable[str], suite: str | None = None) -> None:
    """Installs the Debian packages that are missing on this machine; costs nothing when none is."""
    missing = [package for package in packages if installed(package) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise HostError(f"these Debian packages are needed, and there is no apt-get here: {', '.join(missing)}")
    need_root()
    say(f"Installing on this machine: {', '.join(missing)}")
    with lock("apt"):
        _apt("update")
        target = ["-t", suite] if suite else []
        _apt("install", "--yes", "--no-install-recommends", *target, *missing)


@dataclass(frozen=True)
class Mirror:
    """Where this machine gets Debian from, by its own apt configuration."""

    main: str
    security: str | None


def _sources() -> Iterator[tuple[str, list[str]]]:
    """Every (URI, suites) of the machine's apt sources, one-line and deb822 style."""
    folder = Path("/etc/apt/sources.list.d")
    lists = [Path("/etc/apt/sources.list"), *sorted(folder.glob("*.list"))]
    for path in lists:
        if not path.is_file():
            continue
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            found = re.match(r"\s*deb\s+(?:\[[^]]*\]\s*)?(\S+)\s+(\S+)", line)
            if found:
                yield found[1], [found[2]]
    for path in sorted(folder.glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace")):
            fields: dict[str, str] = {}
            key = ""
            for line in stanza.splitlines():
                if line.startswith("#"):
                    continue
                if line[:1].isspace():
                    fields[key] = fields.get(key, "") + " " + line.strip()
                elif ":" in line:
                    key, _, value = line.partition(":")
                    key = key.strip().lower()
                    fields[key] = value.strip()
            if fields.get("enabled", "yes").lower() == "no" or "deb" not in fields.get("types", "").split():
                continue
            for uri in fields.get("uris", "").split():
                yield uri, fields.get("suites", "").split()


def mirror() -> Mirror:
    """The Debian mirror of this machine. The name never goes into the repository or the image."""
    _, codename = release()
    names = {codename, "trixie", "bookworm", "stable"}
    main = security = None
    for uri, suites in _sources():
        for suite in suites:
            if suite in names and main is None:
                main = uri.rstrip("/")
            if suite.endswith("-security") and suite.removesuffix("-security") in names and security is None:
                security = uri.rstrip("/")
    if main is None:
        raise HostError(
            "no Debian mirror found in /etc/apt/sources.list or sources.list.d; "
            f"add one (a line `deb URL {codename or 'trixie'} main`) and try again"
        )
    return Mirror(main, security)


def apt_proxy_options() -> list[str]:
    """The machine's apt proxy settings as `Name "value"` options for a second apt."""
    found = []
    for line in output("apt-config", "dump").splitlines():
        if re.match(r'Acquire::https?::(Proxy|CaInfo|Verify-Peer)\b', line, re.IGNORECASE):
            found.append(line.rstrip(";"))
    return found


def need_qemu() -> None:
    """QEMU 10 or newer with OVMF: Debian 12's own 7.2 crashes the 6.12 kernel with two processors."""
    packages = ["qemu-system-x86", "qemu-utils", "ovmf"]
    version = installed("qemu-system-x86")
    if version and _major(version) >= 10 and all(map(installed, packages)):
        return
    need_root()
    _, codename = release()
    if codename == "bookworm":
        with lock("apt"):
            if not any("bookworm-backports" in suites for _, suites in _sources()):
                BACKPORTS_LIST.write_text(f"deb {mirror().main} bookworm-backports main\n", encoding="ascii")
            say("Installing on this machine: QEMU from bookworm-backports")
            _apt("update")
            _apt("install", "--yes", "--no-install-recommends", "-t", "bookworm-backports", *packages)
    else:
        need(packages)
    version = installed("qemu-system-x86") or "none"
    if version == "none" or _major(version) < 10:
        raise HostError(f"QEMU 10 or newer is needed, this machine offers {version}")


def _major(version: str) -> int:
    """The leading number of a Debian version, its epoch left out."""
    found = re.match(r"(?:\d+:)?(\d+)", version)
    return int(found[1]) if found else 0
