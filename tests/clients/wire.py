"""XMPP byte by byte: for what no well-behaved client would send."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import socket
import ssl
import time


class Wire:
    """One connection. Whatever arrives is kept in `heard`."""

    def __init__(self, node, *, direct_tls: bool = False, port: int | None = None):
        self.domain = node.domain
        self.context = ssl.create_default_context(cafile=node.ca)
        self.socket = socket.create_connection((node.address, port or (node.xmpps if direct_tls else node.xmpp)), timeout=10)
        self.heard = b""
        self.open = True
        if direct_tls:
            self.encrypt()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def encrypt(self) -> None:
        """Start TLS, with the certificate checked for the domain."""
        self.socket = self.context.wrap_socket(self.socket, server_hostname=self.domain)

    def send(self, data: bytes | str) -> None:
        """Send bytes; that the other side has hung up is no error here."""
        try:
            self.socket.sendall(data.encode() if isinstance(data, str) else data)
        except OSError:
            self.open = False

    def hear(self, pattern: bytes, seconds: float = 10) -> re.Match:
        """Read until the pattern occurs in what has not been taken yet; take everything up to its end."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.heard, re.DOTALL)):
            assert self.more(deadline), f"{pattern!r} does not come; the connection is {'open' if self.open else 'closed'}; heard {self.heard!r}"
        self.heard = self.heard[found.end():]
        return found

    def more(self, deadline: float) -> bool:
        """Read once; False when the other side has closed or time is up."""
        self.socket.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        self.heard += data
        self.open = bool(data)
        return self.open

    def until_closed(self, seconds: float = 10) -> bytes:
        """Everything up to the end of the connection, which must come in time."""
        deadline = time.monotonic() + seconds
        while self.more(deadline):
            pass
        assert not self.open, f"the connection is still open after {seconds} s; heard {self.heard[-500:]!r}"
        return self.heard

    def header(self) -> None:
        """Open a stream and read the other side's features."""
        self.send(
            f"<?xml version='1.0'?><stream:stream to='{self.domain}' version='1.0' xmlns='jabber:client' "
            "xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        self.features = self.hear(rb"<stream:features.*?(</stream:features>|<stream:features\s*/>)")[0].decode()

    def starttls(self) -> None:
        """Open a stream, encrypt it, open it again."""
        self.header()
        self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        self.hear(rb"<proceed[^>]*/>")
        assert self.heard == b"", "nothing follows <proceed/> in the clear"
        self.encrypt()
        self.header()

    def auth(self, mechanism: str, message: bytes) -> None:
        """Begin SASL."""
        text = base64.b64encode(message).decode() or "="
        self.send(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{text}</auth>")

    def plain(self, user: str, password: str, authzid: str = "") -> bytes:
        """SASL PLAIN; answers <success/> or <failure>…</failure>."""
        self.auth("PLAIN", f"{authzid}\0{user}\0{password}".encode())
        return self.verdict()

    def verdict(self, seconds: float = 20) -> bytes:
        """What SASL ended with."""
        return self.hear(rb"<success.*?(</success>|/>)|<failure.*?</failure>", seconds)[0]

    def scram(self, user: str, password: str, hash_name: str = "sha256", flag: str = "n", mechanism: str | None = None) -> bytes:
        """SCRAM without channel binding; answers <success> (whose signature is checked) or <failure>.
        `challenge` is then the salt and the iterations that the server named."""
        mechanism = mechanism or {"sha1": "SCRAM-SHA-1", "sha256": "SCRAM-SHA-256"}[hash_name]
        nonce = base64.b64encode(os.urandom(18)).decode()
        bare = f"n={user},r={nonce}"
        self.auth(mechanism, f"{flag},,{bare}".encode())
        answer = self.hear(rb"<challenge[^>]*>([^<]*)</challenge>|<failure.*?</failure>")
        if answer[1] is None:
            return answer[0]
        first = base64.b64decode(answer[1]).decode()
        fields = dict(part.split("=", 1) for part in first.split(","))
        assert fields["r"].startswith(nonce) and len(fields["r"]) > len(nonce), "the server adds to the nonce"
        self.challenge = fields["s"], int(fields["i"])
        salted = hashlib.pbkdf2_hmac(hash_name, password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
        key = hmac.digest(salted, b"Client Key", hash_name)
        final = f"c={base64.b64encode(f'{flag},,'.encode()).decode()},r={fields['r']}"
        message = f"{bare},{first},{final}".encode()
        signature = hmac.digest(hashlib.new(hash_name, key).digest(), message, hash_name)
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
        response = base64.b64encode(f"{final},p={proof}".encode()).decode()
        self.send(f"<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{response}</response>")
        verdict = self.verdict()
        if verdict.startswith(b"<success"):
            said = base64.b64decode(re.search(rb">([^<]*)<", verdict)[1]).decode()
            expected = hmac.digest(hmac.digest(salted, b"Server Key", hash_name), message, hash_name)
            assert said == "v=" + base64.b64encode(expected).decode(), "the server proves that it knows the user"
        return verdict

    def bind(self, resource: str) -> str:
        """Open the stream after SASL and bind; answers the full address."""
        self.header()
        self.send(f"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind></iq>")
        return self.hear(rb"<jid>([^<]*)</jid>.*?</iq>")[1].decode()
