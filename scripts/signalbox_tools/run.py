"""`scripts/run`: from a clone to a running node."""

from __future__ import annotations

import argparse
import json
import os
import subprocess

from . import image_base, lab, lab_answers, lab_node, lab_services, lab_state, root, rust
from .cli import REPOSITORY, TARGET, say
from .host import HostError, need_qemu, need_root
from .vm_machine import acceleration

FOLDER = TARGET / "run"
SET_UP = "there is a node already, and it was set up; --fresh makes a new one with these answers, and deletes what that one stored"


def really_accelerated() -> bool:
    """Whether a virtual machine would run at the machine's own speed. /dev/kvm may be there and boot nothing."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    need_qemu()
    # A kernel to try it with.
    image_base.ensure()
    return acceleration() == "kvm"


def in_lab(answers: str | None, fresh: bool) -> dict:
    """The nodes of the lab that was there last, or one: those that run already, if nothing changed since."""
    lab.prepare_machine()
    lab.refuse_beside_another()
    changed = root.ensure()
    there = lab_state.nodes()
    if there and answers is not None and not fresh:
        raise HostError(SET_UP)
    off = [one for one in there if lab_node.leader(one) is None]
    if len(off) < len(there) and not changed and not fresh:
        names = " and ".join(one.name for one in there if one not in off)
        say(f"{names} run{'' if ' ' in names else 's'} already, and nothing has changed since.")
        for one in off:
            lab_node.start(one)
        lab_services.wait(there, lab.PATIENCE)
    else:
        # What the nodes stored stays, and they take the new system.
        lab.bring_up(1 if fresh else None, answers, keep=not fresh)
    return lab_state.load()


def in_vm(answers: str | None, fresh: bool) -> dict:
    """The disk image in a virtual machine. Unlike the lab's root, its system lies on the node's own disk: to take a new one
    means to begin anew."""
    description = TARGET / "vm/vm.json"
    changed = root.ensure()
    if description.exists() and not fresh:
        if answers is not None:
            raise HostError(SET_UP)
        if changed:
            say("The node keeps its own, older system and what it stored; --fresh makes a new machine instead.")
        if subprocess.run([REPOSITORY / "scripts/vm", "exec", "--", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode != 0:
            run("scripts/vm", "up")
    else:
        # Never stop because the mirror has moved on; build-image says what differs.
        run("scripts/build-image", "--unlocked")
        if answers is None:
            answers = str(FOLDER / "answers.toml")
            FOLDER.mkdir(parents=True, exist_ok=True)
            complete = lab_answers.complete({"network": {"hostname": "node1", "dhcp": True}})
            with open(os.open(answers, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
                handle.write(lab_answers.toml(complete))
        run("scripts/vm", "down", check=False)
        run("scripts/vm", "up", "--fresh", "--answers", answers)
    return json.loads(description.read_text())


def run(script: str, *arguments: str, check: bool = True) -> None:
    """Another of our commands."""
    done = subprocess.run([REPOSITORY / script, *arguments], check=False)
    if check and done.returncode != 0:
        raise HostError(f"{script} did not succeed; it has said why")


def command_line(place: str, node: dict) -> list[str]:
    """The words, from the clone's own folder, that run an administrator's command on a node."""
    return ["scripts/lab", "cli", node["name"], "--"] if place == "lab" else ["scripts/vm", "exec", "--", "signalbox", "cli"]


def alarms(place: str, node: dict) -> int:
    """How many alarms a node has; none, too, when it does not tell."""
    done = subprocess.run(
        [*command_line(place, node), "show", "alarms", "--json"], cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )
    try:
        return len(json.loads(done.stdout)["result"]["alarms"])
    except (json.JSONDecodeError, KeyError):
        return 0


def sign_in(place: str, node: dict, user: str, raised: int) -> str:
    """How to get at one node."""
    host, _, port = node.get("ssh", node["address"]).partition(":")
    lines = [
        f"{node['name']}",
        f"  Web       {node['web']}",
        f"  SSH       ssh {f'-p {port} ' if port else ''}{user}@{host}    (the administrator's command line)",
        f"  XMPP      {node['xmpp']} with STARTTLS, domain {node['domain']}",
    ]
    if raised:
        lines.append(f"  Alarms    {raised}: {' '.join(command_line(place, node))} show alarms")
    return "\n".join(lines)


def farewell(place: str, facts: dict, raised: dict[str, int]) -> str:
    """Where the nodes are, how many alarms each has raised, how to sign in, how to stop."""
    nodes, admin = facts["nodes"], facts["admin"]
    cli = " ".join(command_line(place, nodes[0]))
    blocks = "\n\n".join(sign_in(place, node, admin["user"], raised[node["name"]]) for node in nodes)
    return f"""
{" and ".join(node["name"] for node in nodes)} {"is" if len(nodes) == 1 else "are"} up, every service.

{blocks}

  Sign in   user {admin['user']}, password {admin['password']}
  CA        {facts['ca']}

  Add two people and let them talk with any XMPP client:
            {cli} users add alice --password SECRET
            {cli} users add bob --password SECRET
  Look      {cli} utils service list
  Stop      scripts/{place} down
  Again     scripts/run{' --lab' if place == 'lab' else ' --vm'} continues with what the nodes stored; --fresh begins anew
"""


def main() -> int:
    """The entry point of `scripts/run`."""
    options = argparse.ArgumentParser(prog="scripts/run", description="Build Signalbox, boot one node, and wait until all of its services are up.")
    place = options.add_mutually_exclusive_group()
    place.add_argument("--vm", action="store_true", help="the disk image under QEMU, accelerated or not")
    place.add_argument("--lab", action="store_true", help="the same root in network namespaces of this machine")
    options.add_argument("--answers", metavar="FILE", help="answers to the first-boot questions (image/answers.example.toml)")
    options.add_argument("--fresh", action="store_true", help="a new node; what the one that is there stored is deleted")
    given = options.parse_args()
    need_root()
    rust.need_cargo()
    say("Building …")
    virtual = given.vm or (not given.lab and really_accelerated())
    place, bring_up = ("vm", in_vm) if virtual else ("lab", in_lab)
    facts = bring_up(given.answers, given.fresh)
    print(farewell(place, facts, {node["name"]: alarms(place, node) for node in facts["nodes"]}))
    return 0
