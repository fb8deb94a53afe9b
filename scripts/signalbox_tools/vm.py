"""The command `scripts/vm`: the disk image under QEMU, for tests and for trying things."""

from __future__ import annotations

import argparse
import os
import select
import shlex
import socket
import sys
import termios
import time
import tomllib
import tty
from pathlib import Path

from . import host, lab_services
from .host import HostError, say
from .vm_machine import Machine, Options

ALIVE = "test -e /etc/signalbox/node.toml || systemctl is-system-running | grep -Eq 'running|degraded'"
SET_UP = "test -e /etc/signalbox/node.toml"


def write_json(machine: Machine, answers: dict) -> None:
    """target/vm/vm.json, in the form of the lab's lab.json."""
    ports = machine.state()["ports"]
    authority = machine.folder / "ca.pem"
    status, certificate, _ = machine.execute("cat /etc/signalbox/certificates/ca/certificate.pem", seconds=30)
    if status == 0:
        authority.write_bytes(certificate)
    administrator = answers.get("administrator", {})
    machine.save("vm.json", {
        "nodes": [{
            "name": answers.get("network", {}).get("hostname", machine.name), "address": "127.0.0.1", "role": answers.get("role", "publisher"),
            "leader_pid": machine.pid(), "web": f"https://127.0.0.1:{ports['web']}/", "xmpp": f"127.0.0.1:{ports['xmpp']}",
            "xmpps": f"127.0.0.1:{ports['xmpps']}", "ssh": f"127.0.0.1:{ports['ssh']}", "domain": answers.get("domain", ""),
        }],
        "admin": {"user": administrator.get("user", ""), "password": administrator.get("password", "")},
        "ca": str(authority) if status == 0 else None,
    })


def answers_of(machine: Machine, path: str | None) -> dict:
    """The answers the machine was given, now or when it was made."""
    source = Path(path) if path else machine.folder / "answers.toml"
    if not source.exists():
        return {}
    try:
        return tomllib.loads(source.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise HostError(f"{source} is not TOML: {error}") from None


def up(machine: Machine, arguments: argparse.Namespace) -> int:
    """Makes the machine, or starts the one that lost its power, and waits until it serves."""
    host.need_qemu()
    answers = answers_of(machine, arguments.answers)
    started = time.monotonic()
    if machine.pid() and arguments.fresh:
        machine.power_cut()
    if machine.disk.exists() and not arguments.fresh and not machine.pid():
        say("Starting the machine that is there; `--fresh` makes a new one.")
    else:
        machine.create(Options(
            firmware=arguments.firmware, memory=arguments.memory, disk=arguments.disk, image=Path(arguments.image),
            answers=Path(arguments.answers) if arguments.answers else None, ovf=arguments.ovf, acceleration=arguments.acceleration,
        ))
        if arguments.answers:
            copy = machine.folder / "answers.toml"
            with open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
                handle.write(Path(arguments.answers).read_bytes())
    machine.start()
    state = machine.state()
    say(f"Started with {state['firmware'].upper()} firmware, acceleration {state['acceleration']}; process {machine.pid()}.")
    if arguments.no_wait:
        return 0
    machine.wait_for(ALIVE, arguments.timeout)
    say(f"{time.monotonic() - started:6.1f} s  the system is up")
    if answers:
        machine.wait_for(SET_UP, arguments.timeout)
        say(f"{time.monotonic() - started:6.1f} s  the node is set up")
        if machine.execute("test -x /usr/bin/signalbox", seconds=30)[0] == 0:
            wait_services(machine, arguments.timeout, started)
            say(f"{time.monotonic() - started:6.1f} s  all services are up")
    write_json(machine, answers)
    say(f"Written: {machine.folder / 'vm.json'}")
    return 0


def wait_services(machine: Machine, seconds: float, started: float) -> None:
    """Waits until every network service and every activated feature service is up, and tells each that comes up."""
    deadline = time.monotonic() + seconds
    seen: set[str] = set()
    listed: list[lab_services.Service] = []
    while time.monotonic() < deadline:
        try:
            _, out, _ = machine.execute(shlex.join(lab_services.LIST), seconds=30)
        except HostError:
            out = b""
        listed = lab_services.parse(out.decode(errors="replace")) or []
        for service in listed:
            if service.up and service.id not in seen:
                seen.add(service.id)
                say(f"{time.monotonic() - started:6.1f} s  {service.id}")
        if listed and all(service.up for service in listed if service.expected):
            return
        if machine.pid() is None:
            raise HostError(f"the virtual machine ended. Its console says:\n{machine.tail()}")
        time.sleep(1)
    late = [f"  {service.state:<9} {service.id}: {service.reason}" for service in listed if service.expected and not service.up]
    raise HostError("\n".join([f"not up after {seconds:.0f} s:", *(late or ["  the supervisor does not answer"]), "See: scripts/vm log"]))


def console(machine: Machine) -> int:
    """Joins the terminal and the machine's serial console; Ctrl-] leaves."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(machine.folder / "serial.sock"))
    except OSError:
        raise HostError("the virtual machine is not running; start it with `scripts/vm up`") from None
    interactive = sys.stdin.isatty()
    before = termios.tcgetattr(sys.stdin) if interactive else None
    if interactive:
        say("Serial console of the machine; Ctrl-] leaves.")
        tty.setraw(sys.stdin)
    try:
        watched: list = [connection, sys.stdin]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if connection in ready:
                data = connection.recv(4096)
                if not data:
                    return 0
                os.write(1, data)
            if sys.stdin in ready:
                data = os.read(0, 4096)
                if interactive and b"\x1d" in data:
                    return 0
                if not data:
                    watched.remove(sys.stdin)  # end of a pipe: what the machine still says is shown until it ends
                connection.sendall(data)
    finally:
        if before is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        connection.close()


def execute(machine: Machine, words: list[str], seconds: float | None) -> int:
    """Runs a command as root; exit status and standard input pass through."""
    data = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
    status, out, error = machine.execute("exec " + shlex.join(words), data, seconds)
    sys.stdout.buffer.write(out)
    sys.stdout.flush()
    sys.stderr.buffer.write(error)
    return status


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="vm", description="The disk image in a virtual machine (QEMU). Nothing of it is reachable from outside this host.")
    top.add_argument("--name", default="", help="more than one machine at a time: each name has its own folder target/vm-NAME (default: target/vm)")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = commands.add_parser("up", help="make a machine from target/image/signalbox.qcow2 and start it; start it again after a power cut")
    start.add_argument("--firmware", choices=("bios", "uefi"), default="bios")
    start.add_argument("--answers", metavar="FILE", help="set up unattended by this answer file, on a second disk labelled SIGNALBOX")
    start.add_argument("--ovf", action="store_true", help="give these answers as OVF properties on a disc, as hypervisors do")
    start.add_argument("--memory", default="2G", help="memory of the machine (default 2G)")
    start.add_argument("--disk", default="8G", help="size of its disk (default 8G)")
    start.add_argument("--image", default=str(Options.image), help="the image to start from")
    start.add_argument("--acceleration", choices=("auto", "kvm", "tcg"), default="auto", help="auto tries whether KVM really boots (default)")
    start.add_argument("--fresh", action="store_true", help="throw away a machine that is there")
    start.add_argument("--no-wait", action="store_true", help="return as soon as QEMU runs")
    start.add_argument("--timeout", type=float, default=300, help="seconds to wait for each step (default 300)")
    commands.add_parser("console", help="the serial console; Ctrl-] leaves")
    run = commands.add_parser("exec", help="run a command as root in the machine; exit status and standard input pass through")
    run.add_argument("--timeout", type=float, help="seconds to wait (default: no limit)")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="-- CMD")
    commands.add_parser("power-cut", help="end the machine as a power cut would; `up` starts it again")
    stop = commands.add_parser("down", help="shut the machine down and remove it")
    stop.add_argument("--keep", action="store_true", help="keep its disk; `up` starts it again")
    commands.add_parser("status", help="whether it runs, and its ports")
    commands.add_parser("log", help="what it wrote to its serial console")
    save = commands.add_parser("snapshot", help="save the running machine, memory and disk")
    save.add_argument("tag")
    load = commands.add_parser("restore", help="put the machine back to a snapshot")
    load.add_argument("tag")
    shot = commands.add_parser("screenshot", help="the video console as a PNG file")
    shot.add_argument("file")
    return top


def main() -> int:
    """Runs one command."""
    arguments = parser().parse_args()
    machine = Machine(arguments.name)
    match arguments.command:
        case "up":
            return up(machine, arguments)
        case "console":
            return console(machine)
        case "exec":
            words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
            if not words:
                raise HostError("exec needs a command: scripts/vm exec -- systemctl --failed")
            return execute(machine, words, arguments.timeout)
        case "power-cut":
            machine.power_cut()
        case "down":
            machine.shut_down()
            if not arguments.keep:
                machine.remove()
        case "status":
            number = machine.pid()
            print(f"running, process {number}" if number else "not running")
            state = machine.state()
            if state:
                print(f"  firmware {state['firmware']}, memory {state['memory']}, acceleration {state['acceleration']}")
            for name, port in state.get("ports", {}).items():
                print(f"  {name:6} 127.0.0.1:{port}")
            return 0 if number else 3
        case "log":
            print(machine.tail(1 << 30))
        case "snapshot":
            machine.human(f"savevm {arguments.tag}")
        case "restore":
            machine.restore(arguments.tag)
        case "screenshot":
            machine.screenshot(Path(arguments.file).resolve())
    return 0
