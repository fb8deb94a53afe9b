"""The Rust toolchain that the workspace is built with, installed when the machine has none or too old a one."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from . import host
from .cli import REPOSITORY, HostError, quiet, say

CARGO_BIN = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo") / "bin"

COMPILER = ["build-essential"]
"""What crates with C parts need to build."""

PROFILE = ["--profile", "minimal", "--component", "clippy", "--component", "rustfmt"]
"""A compiler, cargo, and what `scripts/test` checks with; no documentation."""

UPDATE_ROOT = "https://static.rust-lang.org/rustup"
"""Where the Rust project publishes rustup; RUSTUP_UPDATE_ROOT names another place, as for rustup itself."""


def need_cargo() -> None:
    """A Rust compiler as new as the workspace asks for, and a C compiler beside it. A toolchain that is new enough is left
    alone; otherwise rustup installs exactly the version that the workspace names, beside whatever there is: a newer one's
    lints are not those that the code was written for."""
    wanted = re.search(r'^rust-version = "([\d.]+)"', (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE)[1]
    if shutil.which("cargo") is None:
        os.environ["PATH"] = f"{CARGO_BIN}:{os.environ['PATH']}"
    if not new_enough(wanted):
        say(f"Rust {wanted} or newer is needed, and {found()}: installing Rust {wanted} with rustup.")
        install(wanted)
        if not new_enough(wanted):
            raise HostError(f"Rust {wanted} or newer is needed, and after the installation {found()}: look at `rustup toolchain list`")
    host.need(COMPILER)


def version() -> str | None:
    """The version of the cargo that would run here."""
    if shutil.which("cargo") is None:
        return None
    # A cargo of rustup's that has no toolchain behind it fails.
    words = quiet("cargo", "--version", check=False, cwd=REPOSITORY).stdout.split()
    return words[1] if len(words) > 1 else None


def new_enough(wanted: str) -> bool:
    """Whether cargo is there, and not older than the version that is asked for."""
    there = version()
    return there is not None and numbers(there) >= numbers(wanted)


def found() -> str:
    """What is here, as the end of a sentence."""
    there = version()
    return "there is no cargo here" if there is None else f"cargo here is {there}"


def install(wanted: str) -> None:
    """The toolchain of this version, by the rustup that is here, by Debian's (13 and newer), or by rustup's own installer."""
    _, codename = host.release()
    try:
        if shutil.which("rustup") is None and codename == "bookworm":
            rustup_init(wanted)
        else:
            if shutil.which("rustup") is None:
                host.need(["rustup"])
            host.run("rustup", "toolchain", "install", wanted, *PROFILE)
    except subprocess.CalledProcessError as error:
        raise HostError(f"rustup ended with status {error.returncode}; install Rust as https://rustup.rs says, and try again") from None
    # What the machine's owner has as default stays; this run and its children take the new one.
    os.environ["RUSTUP_TOOLCHAIN"] = wanted


def rustup_init(wanted: str) -> None:
    """rustup's own installer, fetched over HTTPS and run for this user."""
    root = os.environ.get("RUSTUP_UPDATE_ROOT", UPDATE_ROOT)
    url = f"{root}/dist/{platform.machine()}-unknown-linux-gnu/rustup-init"
    with tempfile.TemporaryDirectory() as folder:
        installer = Path(folder) / "rustup-init"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                installer.write_bytes(answer.read())
        except (urllib.error.URLError, OSError) as error:
            raise HostError(
                f"rustup could not be fetched from {url} ({error}); install Rust as https://rustup.rs says, and try again"
            ) from None
        installer.chmod(0o755)
        host.run(installer, "-y", "--no-modify-path", "--default-toolchain", wanted, *PROFILE)


def numbers(text: str) -> tuple[int, ...]:
    """`1.95.0` as numbers that compare; a suffix like `-nightly` does not count."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("-")[0]))
