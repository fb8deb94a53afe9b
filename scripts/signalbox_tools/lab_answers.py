"""The answers to the first-boot questions that the lab gives its nodes."""

from __future__ import annotations

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
        raise HostError(f"there is no {path}.") from None
    except tomllib.TOMLDecodeError as error:
        raise HostError(f"{path} is not TOML: {error}.") from None


def administrator(answers: dict) -> str | None:
    """The administrator's name, if the person gave one."""
    return answers.get("administrator", {}).get("user")


def password(answers: dict) -> str | None:
    """The administrator's password, if the person gave one."""
    return answers.get("administrator", {}).get("password")


def domain(answers: dict) -> str:
    """The XMPP domain."""
    return answers.get("domain", lab_state.DOMAIN)


def write(one: Node, answers: dict, admin: dict) -> None:
    """Put the node's answers where its setup looks for them."""
    del answers, admin
    network = one.etc / "systemd/network/10-eth0.network"
    network.parent.mkdir(parents=True)
    network.write_text(f"[Match]\nName=eth0\n[Network]\nAddress={one.address}/24\nGateway={lab_state.GATEWAY}\n")
