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
    """One node in the lab; the one that runs already, if nothing changed since."""
    lab.prepare_machine()
    changed = root.ensure()
    there = lab_state.nodes()
    if there and answers is not None and not fresh:
        raise HostError(SET_UP)
    running = bool(there) and lab_node.leader(there[0]) is not None
    if running and not changed and not fresh:
        say("The node runs already, and nothing has changed since.")
        lab_services.wait(there, lab.PATIENCE)
    else:
        # What the node stored stays, and it takes the new system.
        lab.bring_up(1, answers, keep=not fresh and bool(there))
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


def farewell(place: str, facts: dict) -> str:
    """Where the node is, how to sign in, how to stop it."""
    node, admin, tool = facts["nodes"][0], facts["admin"], f"scripts/{place}"
    on = f"{node['name']} " if place == "lab" else ""
    host, _, port = node.get("ssh", node["address"]).partition(":")
    cli = f"{tool} cli {on}--" if place == "lab" else f"{tool} exec -- signalbox cli"
    return f"""
{node['name']} is up, every service of it.

  Sign in   user {admin['user']}, password {admin['password']}
  Web       {node['web']}
  SSH       ssh {f'-p {port} ' if port else ''}{admin['user']}@{host}    (the administrator's command line)
  XMPP      {node['xmpp']} with STARTTLS, domain {node['domain']}
  CA        {facts['ca']}

  Add two people and let them talk with any XMPP client:
            {cli} users add alice --password SECRET
            {cli} users add bob --password SECRET
  Look      {cli} utils service list
  Stop      {tool} down
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
    facts = (in_vm if virtual else in_lab)(given.answers, given.fresh)
    print(farewell("vm" if virtual else "lab", facts))
    return 0
