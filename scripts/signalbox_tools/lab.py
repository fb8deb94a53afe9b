"""`scripts/lab`: nodes of Signalbox on this machine, booted from the image's own root."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys

from . import lab_answers, lab_availability, lab_exec, lab_link, lab_network, lab_node, lab_services, lab_state, root
from .cli import ROOT, HostError, say
from .host import need, need_root
from .lab_state import FOLDER, Node

PACKAGES = ["e2fsprogs", "systemd-container", "iproute2", "nftables", "util-linux"]
PATIENCE = 180
"""Seconds that a node may take until its services are up."""


def prepare_machine() -> None:
    """Install what the lab needs."""
    need_root()
    need(PACKAGES)


def refuse_beside_another() -> None:
    """Names, addresses and the bridge are the machine's: while another folder's lab runs, nothing is done to it from here."""
    if other := lab_node.elsewhere():
        raise HostError(
            f"the lab of {other} runs on this machine, and there can be only one.\n"
            f"To stop that one: {other}/scripts/lab down\nTo end it and have this one instead: scripts/lab up --take"
        )


def clear() -> None:
    """End every node and remove the lab's network."""
    lab_link.heal_all()
    lab_node.clear()
    lab_network.clear()


def entry(one: Node, domain: str, role: str) -> dict:
    """What `lab.json` says of a node."""
    return {
        "name": one.name, "address": one.address, "role": role, "leader_pid": None,
        "web": f"https://{one.address}:8443/", "xmpp": f"{one.address}:5222", "domain": domain, "ca": str(one.ca),
    }


def up(options: argparse.Namespace) -> int:
    """Bring up a fresh lab, or with --keep the one of last time."""
    prepare_machine()
    if not options.take:
        refuse_beside_another()
    if not (ROOT / "usr").is_dir():
        say("There is no root yet: scripts/build-root makes it.")
        root.ensure()
    bring_up(
        options.nodes, options.answers, keep=options.keep, separate=options.separate, patience=options.patience, disk=options.disk,
    )
    return 0


def bring_up(
    count: int | None, given: str | None, *, keep: bool, separate: bool = False, patience: float = PATIENCE, disk: str | None = None,
) -> None:
    """Boot nodes and wait until their services are up and replication is good; what a former lab left is cleared first.

    The first node is the publisher and the others join it, unless they are to be `separate`. Without a `count` there are as many
    as last time, if they are kept, or one."""
    answers = lab_answers.read(given)
    clear()
    last = lab_state.load() if keep else {}
    if last:
        separate = separate or [one["role"] for one in last["nodes"][1:2]] == ["publisher"]
        answers = {"administrator": last["admin"], "domain": last["nodes"][0]["domain"], **answers}
    answers = lab_answers.complete(answers)
    count = count or len(last.get("nodes", [])) or 1
    wanted = [Node(number) for number in range(1, count + 1)]
    bare = not lab_services.has_signalbox()
    publisher = None if bare or separate or count == 1 else wanted[0]
    fresh = [one for one in wanted if not (last and one.var.is_dir())]
    for one in fresh:
        lab_node.prepare(one, disk)
        lab_answers.write(one, answers, None if one == publisher else publisher)
        if bare:
            lab_answers.write_network(one)
    with lab_state.locked():
        lab_state.save({
            "nodes": [entry(one, answers["domain"], "publisher" if publisher in (None, one) else "subscriber") for one in wanted],
            "admin": answers["administrator"], "ca": str(FOLDER / "ca.pem"),
        })
    try:
        lab_network.build()
        if publisher:
            lab_node.start(publisher)
            joining = [one for one in fresh if one != publisher]
            if joining:
                lab_services.wait([publisher], patience)
            for one in joining:
                add_subscriber(publisher, one, answers)
        for one in wanted:
            if one != publisher:
                lab_node.start(one)
        lab_services.wait(wanted, patience)
        if publisher:
            lab_services.wait_replication(wanted, patience)
            if fresh:
                lab_availability.enable(publisher)
                lab_availability.wait(wanted, patience)
    except KeyboardInterrupt:
        say("Interrupted: taking the lab down again.")
        clear()
        raise
    if wanted[0].ca.exists():
        shutil.copyfile(wanted[0].ca, FOLDER / "ca.pem")


def add_subscriber(publisher: Node, one: Node, answers: dict) -> None:
    """Add a node to the cluster of the publisher, so that it may join."""
    words = ["set", "network", "cluster", "subscriber", "details", "imp", one.name, one.address, answers["domain"]]
    status = lab_exec.run(publisher, ["/usr/bin/signalbox", "cli", *words], user=answers["administrator"]["user"])
    if status != 0:
        raise HostError(f"{one.name} could not be added on {publisher.name}.")


def down(_options: argparse.Namespace) -> int:
    """Shut every node down and remove the network. The nodes' folders stay, for `up --keep` and for reading."""
    need_root()
    if other := lab_node.elsewhere():
        say(f"There is nothing to stop here: the lab that runs on this machine is that of {other}.")
        return 0
    for one in lab_state.nodes():
        if lab_node.leader(one):
            say(f"{one.name} shuts down.")
            lab_node.shut_down(one)
    clear()
    return 0


def node_status(one: Node) -> dict:
    """One node's part of `status --json`."""
    where, listed = lab_services.phase(one)
    known = lab_state.entry(one)
    return {
        "name": one.name, "address": one.address, "role": known.get("role"), "leader_pid": lab_node.leader(one),
        "phase": where, "services": [service.as_json() for service in listed],
    }


def status(options: argparse.Namespace) -> int:
    """Show each node and its services."""
    need_root()
    found = [node_status(one) for one in lab_state.nodes()]
    other = lab_node.elsewhere()
    cuts = lab_link.cuts() if lab_network.exists() and not other else []
    if options.json:
        print(json.dumps({"nodes": found, "cuts": cuts}, indent=2))
        return 0
    if other:
        print(f"The lab of {other} runs on this machine instead of this one.")
    elif not any(one["leader_pid"] for one in found):
        print("The lab is down. Try: scripts/lab up")
    for one in found:
        print(f"{one['name']}  {one['address']}  {one['role']}  {one['phase']}")
        for service in one["services"]:
            tail = f"  {service['reason']}" if service["reason"] else ""
            print(f"  {service['state']:<10} {service['id']}{tail}")
    for first, second in cuts:
        print(f"cut: {first} does not reach {second}")
    return 0


def execute(options: argparse.Namespace) -> int:
    """Run a command in a node."""
    need_root()
    return lab_exec.run(lab_state.known(options.node), words(options))


def administer(options: argparse.Namespace) -> int:
    """Run an administrator's command in a node, as its administrator."""
    need_root()
    user = lab_state.load()["admin"]["user"]
    return lab_exec.run(lab_state.known(options.node), ["/usr/bin/signalbox", "cli", *words(options)], user=user)


def words(options: argparse.Namespace) -> list[str]:
    """The command after `--`."""
    given = options.words[1:] if options.words[:1] == ["--"] else options.words
    if not given:
        raise HostError("say what to run: scripts/lab exec node1 -- systemctl status")
    return given


def kill(options: argparse.Namespace) -> int:
    """Cut a node's power."""
    need_root()
    one = lab_state.known(options.node)
    ran = lab_node.leader(one) is not None
    lab_node.power_cut(one)
    say(f"{one.name} has lost its power. To start it again: scripts/lab start {one.name}" if ran else f"{one.name} was off already.")
    return 0


def stop(options: argparse.Namespace) -> int:
    """Shut a node down in order."""
    need_root()
    one = lab_state.known(options.node)
    ran = lab_node.leader(one) is not None
    lab_node.shut_down(one)
    say(f"{one.name} has shut down. To start it again: scripts/lab start {one.name}" if ran else f"{one.name} was off already.")
    return 0


def start(options: argparse.Namespace) -> int:
    """Power a node on again and wait for its services."""
    need_root()
    one = lab_state.known(options.node)
    lab_node.start(one)
    lab_services.wait([one], options.patience)
    return 0


def cut(options: argparse.Namespace) -> int:
    """Let nothing pass between two nodes, or between a node and the host."""
    need_root()
    first, second = (name if name == "host" else lab_state.known(name).name for name in (options.first, options.second))
    lab_network.cut(lab_link.port(first), lab_link.port(second), one_way=options.one_way)
    return 0


def slow(options: argparse.Namespace) -> int:
    """Make the link of a node late and narrow."""
    need_root()
    lab_link.slow(lab_state.known(options.node), options.delay, options.rate)
    return 0


def heal(_options: argparse.Namespace) -> int:
    """Undo every cut, and make slow links fast."""
    need_root()
    lab_network.heal()
    lab_link.heal_all()
    return 0


def logs(options: argparse.Namespace) -> int:
    """Show a node's journal, running or not."""
    need_root()
    one = lab_state.known(options.node)
    if options.console:
        sys.stdout.write(one.console.read_text(errors="replace"))
        return 0
    given = options.words[1:] if options.words[:1] == ["--"] else options.words
    line = ["journalctl", "--no-pager", *given]
    if lab_node.leader(one):
        line = [*lab_node.enter(one), *line]
    else:
        line.insert(1, f"--directory={one.var}/log/journal")
    return subprocess.run(line, check=False, env={**os.environ, "SYSTEMD_COLORS": "0"}).returncode


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="scripts/lab", description="Nodes of Signalbox on this machine, in network namespaces with no way out.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, entry, text: str, **options) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=entry.__doc__, **options)
        one.set_defaults(entry=entry)
        return one

    one = add("up", up, "bring up a fresh lab and wait for its services")
    one.add_argument("--nodes", type=int, choices=range(1, lab_state.MOST_NODES + 1), metavar="N", help="how many (1; with --keep as many as last time)")
    one.add_argument("--answers", metavar="FILE", help="answers to the first-boot questions (TOML); what it leaves out, the lab fills in")
    one.add_argument("--separate", action="store_true", help="each node a cluster of its own; otherwise the others join the first")
    one.add_argument("--keep", action="store_true", help="keep what the nodes stored last time")
    one.add_argument("--take", action="store_true", help="end the lab of another folder that runs on this machine")
    one.add_argument("--patience", type=float, default=PATIENCE, metavar="SECONDS", help="how long the services may take")
    one.add_argument("--disk", metavar="SIZE", help="/var of each node is a file system of that size (600M) and can be full")
    add("down", down, "shut every node down and remove the lab's network")
    one = add("status", status, "show each node and its services")
    one.add_argument("--json", action="store_true")
    for name, entry_point, text in (
        ("exec", execute, "run a command in a node"),
        ("cli", administer, "run an administrator's command in a node"),
    ):
        one = add(name, entry_point, text)
        one.add_argument("node")
        one.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    add("kill", kill, "cut a node's power").add_argument("node")
    add("stop", stop, "shut a node down in order").add_argument("node")
    one = add("start", start, "power a node on again and wait for its services")
    one.add_argument("node")
    one.add_argument("--patience", type=float, default=PATIENCE, metavar="SECONDS")
    one = add("cut", cut, "let nothing pass between two nodes")
    one.add_argument("first", metavar="NODE")
    one.add_argument("second", metavar="NODE", help="a node, or `host`")
    one.add_argument("--one-way", action="store_true", help="only from the first to the second")
    one = add("slow", slow, "make the link of a node late and narrow")
    one.add_argument("node")
    one.add_argument("--delay", type=float, default=40, metavar="MILLISECONDS", help="of each frame in each direction (40)")
    one.add_argument("--rate", type=float, default=10, metavar="MBIT", help="megabits a second in each direction (10)")
    add("heal", heal, "undo every cut, make slow links fast")
    one = add("logs", logs, "show a node's journal")
    one.add_argument("node")
    one.add_argument("--console", action="store_true", help="what the node wrote to its console instead")
    one.add_argument("words", nargs="*", metavar="-- JOURNALCTL OPTIONS")
    return top


def main() -> int:
    """The entry point of `scripts/lab`."""
    options = parser().parse_args()
    if options.entry not in (up, down, status, logs):
        refuse_beside_another()
    return options.entry(options)
