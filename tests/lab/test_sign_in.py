"""Every way to sign in, and the ways that must fail."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from node import online, scene
from wire import Wire

BINDING = Path(__file__).resolve().parent.parent / "clients/node/channel-binding.mjs"
MECHANISMS = {"PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"}


@pytest.fixture
def alice(people):
    """One user."""
    return people("alice")[0]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN"])
@pytest.mark.parametrize("direct_tls", [False, True], ids=["STARTTLS", "direct TLS"])
def test_slixmpp_signs_in_by_each_mechanism(alice, mechanism, direct_tls):
    @scene(30)
    async def sign_in():
        async with online(alice.slix(mechanism=mechanism, direct_tls=direct_tls)) as (client,):
            assert client.boundjid.bare == alice.jid
    sign_in()


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN"])
def test_a_wrong_password_is_refused(alice, mechanism):
    @scene(30)
    async def refused():
        client = alice.slix(password=alice.password + "x", mechanism=mechanism)
        assert await client.refused() == "not-authorized"
        await client.sign_out()
    refused()


@pytest.mark.parametrize("hash_name", ["sha1", "sha256"])
def test_the_server_proves_that_it_knows_the_user(alice, hash_name):
    """`Wire.scram` checks the server's signature, which slixmpp and the JavaScript client do not have to."""
    with alice.wire() as wire:
        wire.starttls()
        assert wire.scram(alice.user, alice.password, hash_name).startswith(b"<success")
        assert wire.bind("desk") == f"{alice.jid}/desk"


def bound(alice, hash_name: str, binding: str) -> dict:
    """One sign-in with channel binding from Node.js, whose TLS exports the key material that Python's does not."""
    node = alice.node
    done = subprocess.run(
        ["node", BINDING, node.address, "5223", node.domain, alice.user, alice.password, hash_name, binding],
        env={**os.environ, "NODE_EXTRA_CA_CERTS": node.ca}, capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("hash_name", ["SHA-1", "SHA-256"])
def test_channel_binding(alice, hash_name):
    outcome = bound(alice, hash_name, "right")
    assert set(outcome["mechanisms"]) == MECHANISMS
    assert (outcome["result"], outcome["signature"]) == ("success", True)


def test_channel_binding_notices_anothers_tls_in_between(alice):
    assert bound(alice, "SHA-256", "wrong")["result"] == "not-authorized"


def test_channel_binding_notices_that_somebody_hid_it(alice):
    """RFC 5802 §6: a client that says the server offered none, when it did, was lied to."""
    assert bound(alice, "SHA-256", "downgrade")["result"] != "success"


def test_nothing_is_offered_before_tls_but_tls(node):
    with Wire(node) as wire:
        wire.header()
        assert "<starttls" in wire.features and "<required" in wire.features
        assert "mechanism" not in wire.features


def test_after_tls_the_mechanisms_are_offered_and_no_compression(node):
    with Wire(node) as wire:
        wire.starttls()
        for mechanism in MECHANISMS:
            assert f"<mechanism>{mechanism}</mechanism>" in wire.features
        assert "starttls" not in wire.features
        assert "compress" not in wire.features.lower()


def test_a_certificate_of_another_ca_is_noticed(node):
    """The clients of these tests would notice: without the node's CA nothing is trusted."""
    context = ssl.create_default_context()
    with Wire(node) as wire:
        wire.context = context
        with pytest.raises(ssl.SSLCertVerificationError):
            wire.starttls()


def test_old_tls_is_refused(node):
    context = ssl.create_default_context(cafile=node.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with Wire(node) as wire:
        wire.context = context
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            wire.starttls()


def test_an_unknown_user_and_a_wrong_password_look_the_same(alice, node):
    """Same answer, same challenge for the same name, about the same time."""
    def attempt(user: str) -> tuple[bytes, float, tuple[str, int]]:
        with Wire(node, direct_tls=True) as wire:
            wire.header()
            begin = time.monotonic()
            answer = wire.scram(user, "wrong password")
            return answer, time.monotonic() - begin, wire.challenge
    nobody = "nobody-" + alice.user
    known, unknown = attempt(alice.user), attempt(nobody)
    assert known[0] == unknown[0]
    assert b"not-authorized" in known[0]
    assert abs(known[1] - unknown[1]) < 0.5
    (salt, iterations), (made_up, made_up_iterations) = known[2], unknown[2]
    assert (len(salt), iterations) == (len(made_up), made_up_iterations)
    assert salt != made_up
    assert attempt(alice.user)[2] == known[2]
    assert attempt(nobody)[2] == unknown[2]
    node.cli("utils", "service", "restart", "authentication-service")
    node.settle()
    assert attempt(alice.user)[2] == known[2]
    assert attempt(nobody)[2] == unknown[2], "also after a restart"


def test_failures_are_slowed_and_the_right_password_still_works(alice, node):
    times = []
    for _ in range(6):
        with Wire(node, direct_tls=True) as wire:
            wire.header()
            begin = time.monotonic()
            assert b"not-authorized" in wire.plain(alice.user, "wrong")
            times.append(time.monotonic() - begin)
    assert times[-1] > times[0] + 0.2, f"the sixth failure takes longer than the first: {times}"
    with Wire(node, direct_tls=True) as wire:
        wire.header()
        assert wire.plain(alice.user, alice.password).startswith(b"<success")


def test_a_deleted_user_cannot_sign_in(alice, node):
    node.cli("users", "delete", alice.user)
    with Wire(node, direct_tls=True) as wire:
        wire.header()
        assert b"not-authorized" in wire.plain(alice.user, alice.password)


@scene(60)
async def test_a_new_password_is_effective_at_once(people, node):
    (alice,) = people("alice")
    node.cli("users", "passwd", alice.user, "--password", "another-one")
    assert await alice.slix().refused() == "not-authorized"
    async with online(alice.slix(password="another-one")) as (client,):
        assert client.boundjid.bare == alice.jid
