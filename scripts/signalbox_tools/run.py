"""`scripts/run`: from a clone to a running node."""

from __future__ import annotations

import argparse
import json
import os
import subprocess

from . import lab, lab_answers, lab_node, lab_services, lab_state, root, rust
from .cli import REPOSITORY, TARGET, say
from .host import HostError, need_qemu, need_root
from .vm_machine import acceleration

FOLDER = TARGET / "run"


def really_accelerated() -> bool:
    """Whether a virtual machine would run at the machine's own speed. /dev/kvm may be there and boot nothing."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    need_qemu()
    return acceleration() == "kvm"


def in_lab(answers: str | None) -> dict:
    """One node in the lab; the one that runs already, if nothing changed since."""
    lab.prepare_machine()
    changed = root.ensure()
    there = lab_state.nodes()
    running = bool(there) and lab_node.leader(there[0]) is not None
    if running and not changed and answers is None:
        say("The node runs already, and nothing has changed since.")
        lab_services.wait(there, lab.PATIENCE)
    else:
        # What the node stored stays, unless it is to be set up by other answers.
        lab.bring_up(1, answers, keep=answers is None)
    return lab_state.load()


def in_vm(answers: str | None) -> dict:
    """The disk image in a virtual machine."""
    description = TARGET / "vm/vm.json"
    made = root.ensure()
    if made or not description.exists():
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
    elif subprocess.run([REPOSITORY / "scripts/vm", "exec", "--", "true"], capture_output=True, check=False).returncode != 0:
        run("scripts/vm", "up")
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
    given = options.parse_args()
    need_root()
    rust.need_cargo()
    say("Building …")
    root.build_binary()
    virtual = given.vm or (not given.lab and really_accelerated())
    facts = in_vm(given.answers) if virtual else in_lab(given.answers)
    print(farewell("vm" if virtual else "lab", facts))
    return 0
