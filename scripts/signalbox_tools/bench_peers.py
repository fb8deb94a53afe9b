"""Debian's prosody and ejabberd, run from a root of their own in a network namespace of their own.

Both are configured as their own documentation says for many users: hashed passwords, TLS required, the event backend
of the system, no rate limits (they would measure the limit), no archive, logging of warnings only.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from . import bench_measure, host
from .cli import quiet
from .host import TARGET, HostError, say

DOMAIN = "bench.example"
PASSWORD = "bench-password"
HOST_ADDRESS, ADDRESS = "10.201.9.1", "10.201.9.2"
NAMESPACE, LINK = "signalbox-bench", "sbbench-host"
ROOT = TARGET / "cache" / "peers"
WORK = TARGET / "bench" / "peers"
START_LIMIT = 60

PROSODY = """
daemonize = false
network_backend = "epoll"
modules_enabled = {
    "roster"; "saslauth"; "tls"; "disco"; "carbons"; "smacks"; "blocklist"; "vcard_legacy"; "pep";
    "ping"; "time"; "version"; "private"; "offline"; "csi_simple";
}
modules_disabled = { "s2s"; "limits" }
c2s_require_encryption = true
authentication = "internal_hashed"
storage = "internal"
log = { warn = "*console" }
data_path = "/bench/prosody"
VirtualHost "bench.example"
    ssl = { key = "/bench/server.key", certificate = "/bench/server.pem" }
"""

PROSODY_START = """#!/bin/sh
unset NOTIFY_SOCKET
mkdir -p /bench/certs
chown -R prosody /bench/prosody
touch /bench/ready
exec setpriv --reuid prosody --regid prosody --clear-groups prosody --config /bench/prosody.cfg.lua -F
"""

EJABBERD = """
hosts: ["bench.example"]
loglevel: warning
certfiles: ["/bench/both.pem"]
auth_method: internal
auth_password_format: scram
listen:
  - port: 5222
    ip: "::"
    module: ejabberd_c2s
    starttls_required: true
    max_stanza_size: 262144
    shaper: none
    access: all
max_fsm_queue: 10000
shaper_rules:
  max_user_sessions: 10
  max_user_offline_messages: 5000
modules:
  mod_adhoc: {}
  mod_blocking: {}
  mod_caps: {}
  mod_carboncopy: {}
  mod_client_state: {}
  mod_disco: {}
  mod_last: {}
  mod_offline: {}
  mod_ping: {}
  mod_privacy: {}
  mod_private: {}
  mod_pubsub: {plugins: [flat, pep]}
  mod_roster: {versioning: true}
  mod_stream_mgmt: {}
  mod_vcard: {}
  mod_version: {}
"""

EJABBERD_START = """#!/bin/sh
export HOME=/tmp ERL_EPMD_ADDRESS=127.0.0.1 ERL_MAX_PORTS=16384
install -d -o ejabberd -g ejabberd /run/ejabberd
echo 'ejabberd - nofile 16384' >/etc/security/limits.d/ejabberd.conf
cp /bench/ejabberd.yml /etc/ejabberd/ejabberd.yml
ejabberdctl foreground &
ejabberdctl started && ejabberdctl import_piefxis /bench/users.xml
touch /bench/ready
wait
"""


@dataclass(frozen=True)
class Peer:
    """A server that runs now."""

    name: str
    version: str
    ancestor: int
    address: str = ADDRESS
    domain: str = DOMAIN
    password: str = PASSWORD
    ca: Path = WORK / "ca.pem"

    def read(self) -> bench_measure.Reading:
        """CPU and memory of the server's processes now."""
        return bench_measure.read(self.ancestor)


def prepare() -> None:
    """Makes the root with both servers, once."""
    host.need_root()
    host.need(["mmdebstrap", "debian-archive-keyring", "systemd-container", "iproute2", "openssl"])
    if (ROOT / "usr/bin/prosody").exists():
        return
    say("Making a Debian 13 root with prosody and ejabberd, once …")
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.parent.mkdir(parents=True, exist_ok=True)
    options = [f"--aptopt={option}" for option in host.apt_proxy_options()]
    quiet(
        "mmdebstrap", "--mode=root", "--variant=minbase", "--include=prosody,ejabberd,lua-unbound,lua-event",
        *options, "trixie", str(ROOT), f"deb {host.mirror().main} trixie main",
    )


@contextlib.contextmanager
def network() -> Iterator[None]:
    """A namespace with a wire to this machine and no way out."""
    quiet("ip", "link", "del", LINK, check=False)
    quiet("ip", "netns", "del", NAMESPACE, check=False)
    quiet("ip", "netns", "add", NAMESPACE)
    try:
        quiet("ip", "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE)
        quiet("ip", "addr", "add", f"{HOST_ADDRESS}/24", "dev", LINK)
        quiet("ip", "link", "set", LINK, "up")
        for command in (["addr", "add", f"{ADDRESS}/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
            quiet("ip", "-n", NAMESPACE, *command)
        yield
    finally:
        quiet("ip", "link", "del", LINK, check=False)
        quiet("ip", "netns", "del", NAMESPACE, check=False)


def certificates() -> None:
    """An authority of this run and the servers' certificate."""
    ca, key = WORK / "ca.pem", WORK / "ca.key"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    quiet(*new, "-keyout", key, "-out", ca, "-subj", "/CN=Bench authority")
    quiet(
        *new, "-CA", ca, "-CAkey", key, "-keyout", WORK / "server.key", "-out", WORK / "server.pem", "-subj", f"/CN={DOMAIN}",
        "-addext", f"subjectAltName=DNS:{DOMAIN}", "-addext", "basicConstraints=critical,CA:false",
    )
    (WORK / "both.pem").write_bytes((WORK / "server.pem").read_bytes() + (WORK / "server.key").read_bytes())
    for path in WORK.iterdir():
        path.chmod(0o644)


def prosody_accounts(users: int) -> None:
    """Accounts in prosody's own files; one salt for all, so that making them costs one derivation."""
    salt, iterations = "bench-salt", 10000
    salted = hashlib.pbkdf2_hmac("sha1", PASSWORD.encode(), salt.encode(), iterations)
    stored = hashlib.sha1(hmac.digest(salted, b"Client Key", "sha1")).hexdigest()
    server = hmac.digest(salted, b"Server Key", "sha1").hex()
    account = (
        f'return {{ ["salt"] = "{salt}"; ["iteration_count"] = {iterations}; '
        f'["stored_key"] = "{stored}"; ["server_key"] = "{server}"; }};\n'
    )
    folder = WORK / "prosody" / DOMAIN.replace(".", "%2e") / "accounts"
    folder.mkdir(parents=True)
    for index in range(users):
        (folder / f"load{index}.dat").write_text(account)


def ejabberd_accounts(users: int) -> None:
    """Accounts as XEP-0227, which ejabberd imports."""
    rows = "".join(f"<user name='load{index}' password='{PASSWORD}'/>" for index in range(users))
    (WORK / "users.xml").write_text(
        f"<server-data xmlns='urn:xmpp:pie:0'><host jid='{DOMAIN}'>{rows}</host></server-data>", encoding="ascii"
    )


def _version(name: str) -> str:
    return quiet("chroot", str(ROOT), "dpkg-query", "-W", "-f", "${Version}", name).stdout


@contextlib.contextmanager
def running(name: str, users: int) -> Iterator[Peer]:
    """Runs `prosody` or `ejabberd` with fresh accounts until the block ends."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    certificates()
    if name == "prosody":
        prosody_accounts(users)
        (WORK / "prosody.cfg.lua").write_text(PROSODY)
        (WORK / "start").write_text(PROSODY_START)
    else:
        ejabberd_accounts(users)
        (WORK / "ejabberd.yml").write_text(EJABBERD)
        (WORK / "start").write_text(EJABBERD_START)
    with network():
        log = open(WORK.parent / f"{name}.log", "wb")
        process = subprocess.Popen(
            [
                "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--as-pid2", f"--directory={ROOT}", "--volatile=overlay",
                f"--network-namespace-path=/run/netns/{NAMESPACE}", f"--bind={WORK}:/bench", "--rlimit=RLIMIT_NOFILE=16384",
                f"--machine=bench-{name}", "/bin/sh", "/bench/start",
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )
        try:
            _wait(process, log.name)
            yield Peer(name, _version(name), process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            log.close()


def _wait(process: subprocess.Popen, log: str) -> None:
    end = time.monotonic() + START_LIMIT
    while time.monotonic() < end and process.poll() is None:
        if (WORK / "ready").exists():
            with contextlib.suppress(OSError), socket.create_connection((ADDRESS, 5222), 1):
                return
        time.sleep(0.2)
    raise HostError(f"the server did not listen within {START_LIMIT} s; its output is in {log}")
