"""What a stranger may send to the open port: refused early, without harm to anybody else."""

from __future__ import annotations

import base64
import time

import pytest
from node import online, scene
from slix import until
from wire import Wire

STREAM = "<stream:stream to='{domain}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
LIMIT = 64 * 1024
"""Bytes that a connection may send before it has signed in."""


@pytest.fixture(autouse=True)
def nobody_falls_over(node):
    """Whatever is sent, the same processes serve afterwards."""
    services = ("xmpp-connection-manager", "xmpp-router", "authentication-service")
    before = node.main_pids(*services)
    yield
    assert node.main_pids(*services) == before


def refused(wire: Wire, condition: bytes | None = None, seconds: float = 10) -> bytes:
    """The other side hangs up, with that stream error if one is named."""
    heard = wire.until_closed(seconds)
    if condition:
        assert condition in heard, heard
    return heard


def greet(wire: Wire, node) -> None:
    """The stream header, without reading the answer."""
    wire.send(STREAM.format(domain=node.domain))


@pytest.mark.parametrize("prolog", [
    "<!DOCTYPE stream>",
    "<!DOCTYPE stream [<!ENTITY a 'b'>]>",
    "<!DOCTYPE stream SYSTEM 'file:///etc/passwd'>",
    "<!DOCTYPE l [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>]>",
    "<?php system('id') ?>",
    "<!-- comment -->",
], ids=["doctype", "entity", "external", "expansion", "instruction", "comment"])
@pytest.mark.parametrize("direct_tls", [False, True], ids=["clear", "TLS"])
def test_no_dtd_entity_instruction_or_comment_before_the_stream(node, prolog, direct_tls):
    with Wire(node, direct_tls=direct_tls) as wire:
        wire.send("<?xml version='1.0'?>" + prolog)
        greet(wire, node)
        refused(wire, b"<stream:error>")


@pytest.mark.parametrize("inside", ["&undefined;", "<!ENTITY a 'b'>", "<!-- x -->", "<?x y?>", "&#0;", "\x01"])
def test_nor_inside_it(node, inside):
    with Wire(node, direct_tls=True) as wire:
        wire.header()
        wire.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{inside}</auth>")
        refused(wire)


def test_predefined_entities_are_no_entities(people):
    """&lt; &gt; &amp; &quot; &apos; and numbers are XML, not a DTD."""
    (alice,) = people("alice")
    with alice.wire(direct_tls=True) as wire:
        wire.header()
        assert wire.scram(alice.user, alice.password).startswith(b"<success")
        me = wire.bind("x")
        wire.send(f"<message to='{me}' type='chat'><body>&lt;a&gt; &amp; &quot;b&apos; &#x41;</body></message>")
        body = wire.hear(rb"<body>(.*?)</body>")[1]
        assert body.replace(b"&quot;", b'"').replace(b"&apos;", b"'").replace(b"&#x41;", b"A") == b"&lt;a&gt; &amp; \"b' A"


@pytest.mark.parametrize("direct_tls", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize("piece", ["<auth xmlns='x' a='", "<a>", "<stream:features>" + "x" * 1000, " " * 1000],
                         ids=["attribute", "depth", "text", "blanks"])
def test_no_more_than_64_kib_before_signing_in(node, piece, direct_tls):
    """Of the whole connection, blanks between elements included."""
    with Wire(node, direct_tls=direct_tls) as wire:
        wire.header()
        sent = 0
        # Just above the limit and no further: whatever else has a limit, too, has a larger one.
        while wire.open and sent < LIMIT + 8192:
            chunk = piece * (4096 // len(piece))
            wire.send(chunk)
            sent += len(chunk)
            wire.more(time.monotonic() + 0.001)
        refused(wire)


def test_nothing_sent_in_the_clear_counts_after_starttls(people, node):
    """CVE-2011-0411 and its kin: what an attacker puts behind <starttls/> must not be read as if it were encrypted."""
    (alice,) = people("alice")
    secret = base64.b64encode(f"\0{alice.user}\0{alice.password}".encode()).decode()
    with Wire(node) as wire:
        wire.header()
        wire.send(
            "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>" + STREAM.format(domain=node.domain)
            + f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"
        )
        try:
            wire.hear(rb"<proceed[^>]*/>", 3)
            wire.encrypt()
        except (AssertionError, OSError):
            # Hanging up at once is the other right answer.
            return
        wire.send(b"")
        assert not wire.more(time.monotonic() + 1) or b"success" not in wire.heard
        assert b"success" not in wire.heard
        if wire.open:
            wire.header()
            assert b"success" not in wire.heard


def test_no_password_before_tls(people, node):
    (alice,) = people("alice")
    with Wire(node) as wire:
        wire.header()
        wire.auth("PLAIN", f"\0{alice.user}\0{alice.password}".encode())
        heard = wire.hear(rb"<failure.*?</failure>|</stream:stream>|<stream:error>.*?</stream:error>")[0]
        assert b"success" not in heard


def test_nobody_signs_in_as_somebody_else(people):
    alice, bob = people("alice", "bob")
    with alice.wire(direct_tls=True) as wire:
        wire.header()
        assert b"invalid-authzid" in wire.plain(alice.user, alice.password, authzid=bob.jid)
    with alice.wire(direct_tls=True) as wire:
        wire.header()
        assert wire.plain(alice.user, alice.password, authzid=alice.jid).startswith(b"<success")


def test_no_compression(people, node):
    """XEP-0138 in the clear or under TLS: neither offered nor accepted."""
    (alice,) = people("alice")
    with Wire(node, direct_tls=True) as wire:
        wire.header()
        wire.plain(alice.user, alice.password)
        wire.header()
        assert "compress" not in wire.features
        wire.send("<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>")
        assert b"compressed" not in wire.until_closed()


@pytest.mark.parametrize("mechanism", ["ANONYMOUS", "EXTERNAL", "DIGEST-MD5", "LOGIN", "SCRAM-SHA-512", ""])
def test_a_mechanism_that_was_not_offered(node, mechanism):
    with Wire(node, direct_tls=True) as wire:
        wire.header()
        wire.auth(mechanism, b"")
        assert b"invalid-mechanism" in wire.verdict()


@pytest.mark.parametrize("message", [b"", b"\0", b"\0\0", b"a\0b", b"\0a\0b\0c", b"\xff\xfe\0a\0b", b"\0" + b"a" * 5000 + b"\0b", b"n,,n=,r=", b"\0a\0"])
def test_malformed_credentials(node, message):
    for mechanism in ("PLAIN", "SCRAM-SHA-256"):
        with Wire(node, direct_tls=True) as wire:
            wire.header()
            wire.auth(mechanism, message)
            assert b"<failure" in wire.hear(rb"<failure.*?</failure>|<challenge.*?</challenge>|<success.*?>|<stream:error>.*?</stream:error>")[0]


@pytest.mark.parametrize("condition, header", [
    (b"host-unknown", "<stream:stream to='elsewhere.example' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"),
    (b"invalid-namespace", "<stream:stream to='{domain}' version='1.0' xmlns='jabber:client' xmlns:stream='urn:example:other'>"),
    (b"", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (b"", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    (b"", "\xff\xfe<\x00s\x00"),
], ids=["host", "namespace", "http", "tls on the wrong port", "utf-16"])
def test_a_header_that_is_none(node, condition, header):
    with Wire(node) as wire:
        wire.send(header.format(domain=node.domain).encode("latin-1"))
        heard = refused(wire)
        assert condition in heard


def signed_in(alice) -> Wire:
    """A bare connection that has bound a resource."""
    wire = alice.wire(direct_tls=True)
    wire.header()
    assert wire.plain(alice.user, alice.password).startswith(b"<success")
    wire.bind("x")
    return wire


def test_a_stanza_has_a_bound_after_signing_in_too(people):
    (alice,) = people("alice")
    with signed_in(alice) as wire:
        wire.send(f"<message to='{alice.jid}'><body>")
        for _ in range(64):
            wire.send("x" * 65536)
            if not wire.open:
                break
        refused(wire)


def test_depth_has_a_bound_after_signing_in_too(people):
    (alice,) = people("alice")
    with signed_in(alice) as wire:
        wire.send(f"<message to='{alice.jid}'>" + "<a>" * 5000)
        refused(wire)


@pytest.mark.parametrize("stanza", ["<presence><x></presence></x>", "<message><body>&nothing;</body></message>", "</a>", "<x:y/>", "<!DOCTYPE a>"])
def test_a_stanza_that_is_no_xml_ends_only_its_own_stream(people, stanza):
    alice, bob = people("alice", "bob")

    @scene(60)
    async def others_go_on():
        async with online(bob.slix()) as (b,):
            with signed_in(alice) as wire:
                wire.send(stanza)
                refused(wire, b"<stream:error>")
            b.write(bob.jid, "still here")
            await b.received("still here")
            assert b.sessions == 1
    others_go_on()


def test_a_sender_cannot_pretend(people):
    """RFC 6120 §8.1.2.1: the server stamps the true address, or ends the stream."""
    alice, bob = people("alice", "bob")

    @scene(60)
    async def stamped():
        async with online(bob.slix()) as (b,):
            with signed_in(alice) as wire:
                wire.send(f"<message from='admin@{alice.node.domain}/x' to='{bob.jid}' type='chat'><body>obey</body></message>")
                wire.send(f"<message to='{bob.jid}' type='chat'><body>end</body></message>")
                await until("an answer", lambda: b.texts or not wire.more(time.monotonic() + 0.05), 10)
            assert all(writer == alice.jid for writer, _ in b.texts)
    stamped()


def test_connections_that_say_nothing_are_hung_up_on(node):
    """A stranger cannot hold a connection for ever; a minute or so is allowed."""
    with Wire(node) as wire:
        wire.until_closed(100)


def test_many_silent_connections_keep_nobody_out(people, node):
    (alice,) = people("alice")
    silent = [Wire(node) for _ in range(300)]
    try:
        with alice.wire() as wire:
            wire.starttls()
            assert wire.scram(alice.user, alice.password).startswith(b"<success")
    finally:
        for wire in silent:
            wire.socket.close()
