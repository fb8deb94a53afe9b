"""What every command needs: where things are, how to speak to a person, how to run programs."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
"""The folder that holds this clone."""

TARGET = REPOSITORY / "target"
"""Everything that is built or kept while running lives here; nothing in it is committed."""

CARGO_TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or TARGET)
"""Where cargo puts what it builds."""

ROOT = Path(os.environ.get("SIGNALBOX_ROOT") or TARGET / "root")
"""The node's Debian root, made by scripts/build-root, or another one to try."""


class Failure(Exception):
    """An error whose text tells the person what to do next; shown without a traceback."""

    def __init__(self, text: str, status: int = 1):
        super().__init__(text)
        self.status = status


def say(text: str) -> None:
    """One line of progress, on standard error: standard output belongs to results."""
    print(text, file=sys.stderr, flush=True)


def colour() -> bool:
    """Whether a person with a terminal reads what `say` prints."""
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ


def main(entry) -> None:
    """Run a command's entry point: a Failure becomes its text and its exit status."""
    try:
        sys.exit(entry(sys.argv[1:]) or 0)
    except Failure as failure:
        name = Path(sys.argv[0]).name
        print(f"{name}: {failure}", file=sys.stderr)
        sys.exit(failure.status)
    except KeyboardInterrupt:
        print("", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def require_root(what: str) -> None:
    """Stop unless run by root: namespaces, mounts and packages need it."""
    if os.geteuid() != 0:
        raise Failure(f"{what} needs root. Try: sudo {shlex.join(sys.argv)}")


def run(*command: str | os.PathLike, **options) -> subprocess.CompletedProcess:
    """Run a program to its end. A failure names the command and shows what it wrote, if that was captured."""
    check = options.pop("check", True)
    options.setdefault("text", True)
    words = [os.fspath(word) for word in command]
    try:
        done = subprocess.run(words, **options)
    except FileNotFoundError:
        raise Failure(f"{words[0]} is not installed.") from None
    if check and done.returncode != 0:
        said = "\n".join(part.strip() for part in (done.stdout, done.stderr) if part)
        raise Failure(f"`{shlex.join(words)}` ended with status {done.returncode}." + (f"\n{said}" if said else ""))
    return done


def quiet(*command: str | os.PathLike, **options) -> subprocess.CompletedProcess:
    """`run` with the output captured instead of shown."""
    return run(*command, capture_output=True, **options)


def missing(*programs: str) -> list[str]:
    """Those of the programs that this machine does not have."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [program for program in programs if shutil.which(program, path=path) is None]


def install(packages: list[str]) -> None:
    """Install Debian packages, after saying so. `packages` must be what is missing only."""
    if not packages:
        return
    if missing("apt-get"):
        raise Failure(f"this machine is not Debian; install what {', '.join(packages)} hold by hand, then try again.")
    require_root(f"installing {', '.join(packages)}")
    say(f"Installing {' '.join(packages)} …")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    # The lists may be missing or old: refresh them only when the first try fails.
    if quiet(*command, check=False, env=environment).returncode != 0:
        quiet("apt-get", "update", "-q", env=environment)
        quiet(*command, env=environment)


def debian_release() -> int | None:
    """12, 13 … on Debian, None elsewhere."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return None
    if release.get("ID") != "debian":
        return None
    version = release.get("VERSION_ID", "")
    return int(version) if version.isdigit() else None
