"""The answers to the first-boot questions that the lab gives its nodes (the fields: image/answers.example.toml)."""

from __future__ import annotations

import json
import os
import secrets
import tomllib

from . import lab_state
from .cli import HostError
from .lab_state import Node

INSIDE = "lib/signalbox/setup/answers.toml"
"""Where setup looks for them, below /var."""


def read(path: str | None) -> dict:
    """The answers that the person gave; none when there is no file."""
    if path is None:
        return {}
    try:
        with open(path, "rb") as handle:
            return tomllib.load(handle)
    except FileNotFoundError:
        raise HostError(f"there is no {path}") from None
    except tomllib.TOMLDecodeError as error:
        raise HostError(f"{path} is not TOML: {error}") from None


def complete(given: dict) -> dict:
    """The person's answers, with the lab's for all that they left out. Passwords are new each time."""
    default = {
        "domain": lab_state.DOMAIN,
        "security_password": secrets.token_urlsafe(12),
        "administrator": {"user": "admin", "password": secrets.token_urlsafe(12)},
        "certificate": {"organization": "Signalbox lab"},
    }
    return {**default, **given}


def of_node(one: Node, answers: dict, publisher: Node | None = None) -> dict:
    """The answers for one node, which joins the publisher's cluster if there is one: its name and address are the lab's to
    give."""
    network = {
        "domain": answers["domain"],
        **answers.get("network", {}),
        "hostname": one.name, "dhcp": False, "address": f"{one.address}/24", "gateway": lab_state.GATEWAY,
    }
    if publisher is None:
        return {**answers, "network": network}
    own = {key: value for key, value in answers.items() if key not in ("application_user", "smtp")}
    return {**own, "role": "subscriber", "publisher": publisher.address, "network": network}


def write(one: Node, answers: dict, publisher: Node | None = None) -> None:
    """Put the node's answers where its setup looks for them."""
    path = one.var / INSIDE
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(toml(of_node(one, answers, publisher)))


def write_network(one: Node) -> None:
    """Configure the network of a bare root, which has no setup that would do it."""
    path = one.etc / "systemd/network/10-eth0.network"
    path.parent.mkdir(parents=True)
    path.write_text(f"[Match]\nName=eth0\n[Network]\nAddress={one.address}/24\nGateway={lab_state.GATEWAY}\n")


def toml(answers: dict) -> str:
    """Answers as TOML: texts, numbers, switches and lists of them, in tables one level deep.

    A JSON text, number, switch or list of them is TOML as it stands; Python can read TOML but not write it.
    """
    def fields(values: dict) -> list[str]:
        return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if not isinstance(value, dict)]

    lines = fields(answers)
    for key, value in answers.items():
        if isinstance(value, dict):
            lines += ["", f"[{key}]", *fields(value)]
    return "\n".join(lines) + "\n"
