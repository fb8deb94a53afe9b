"""What the lab, run and test commands share on top of `host`: places, and programs whose output is kept."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from .host import REPOSITORY, TARGET, HostError, say

CARGO_TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or TARGET)
"""Where cargo puts what it builds."""

ROOT = Path(os.environ.get("SIGNALBOX_ROOT") or TARGET / "root")
"""The node's Debian root, made by scripts/build-root, or another one to try."""

__all__ = ["CARGO_TARGET", "REPOSITORY", "ROOT", "TARGET", "HostError", "lab", "quiet", "say"]


def quiet(*command: str | os.PathLike, **options) -> subprocess.CompletedProcess:
    """Run a program with its output captured. A failure names the command and shows what it wrote."""
    check = options.pop("check", True)
    options.setdefault("text", True)
    words = [os.fspath(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, check=False, **options)
    except FileNotFoundError:
        raise HostError(f"{words[0]} is not installed") from None
    if check and done.returncode != 0:
        said = "\n".join(part.strip() for part in (done.stdout, done.stderr) if part)
        raise HostError(f"`{shlex.join(words)}` ended with status {done.returncode}" + (f"\n{said}" if said else ""))
    return done


def lab(*words: str, **options) -> str:
    """What `scripts/lab WORDS` prints, as another command of ours; its progress goes where ours goes."""
    return subprocess.run([REPOSITORY / "scripts/lab", *words], check=True, stdout=subprocess.PIPE, text=True, **options).stdout
