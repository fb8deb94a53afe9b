"""What must not be in the image, and what must."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
from pathlib import Path

from signalbox_tools import image_config
from signalbox_tools.host import REPOSITORY, mirror
from signalbox_tools.image_base import enter


def files(root: Path):
    """Every regular file of the tree."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            if not path.is_symlink() and path.is_file():
                yield path


def texts(root: Path):
    """Every file that is not a program or an archive of one."""
    for path in files(root):
        with open(path, "rb") as handle:
            head = handle.read(8)
            if head.startswith(b"\x7fELF") or path.suffix in (".xz", ".gz", ".mo", ".cache"):
                continue
            yield path, head + handle.read()


def test_no_account_has_a_password(root):
    entries = [line.split(":") for line in (root / "etc/shadow").read_text().splitlines()]
    assert len(entries) > 10, "the list of accounts is not the tree's"
    open_accounts = [entry[0] for entry in entries if entry[1].lstrip("!") not in ("*", "")]
    without = [entry[0] for entry in entries if entry[1] == ""]
    assert not open_accounts, "these accounts have a password hash"
    assert not without, "these accounts have an empty password"
    assert all(entry.split(":")[1] == "x" for entry in (root / "etc/passwd").read_text().splitlines())


def test_nobody_is_a_person(root):
    people = [line for line in (root / "etc/passwd").read_text().splitlines() if 1000 <= int(line.split(":")[2]) < 65000]
    assert people == []


def test_no_key_and_nothing_that_admits_a_key(root):
    found = [path for path in files(root) if path.name in ("authorized_keys", "authorized_keys2", "known_hosts", ".rhosts", "shosts.equiv")]
    found += list((root / "etc/ssh").glob("ssh_host_*"))
    found += [path for path, content in texts(root) if re.search(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----", content)]
    assert found == []


def test_nothing_that_two_nodes_must_not_share(root):
    assert (root / "etc/machine-id").read_bytes() == b"", "every node would have the same machine id"
    for name in ("var/lib/dbus/machine-id", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret", "etc/hostid", "etc/signalbox/node.toml"):
        assert not (root / name).exists(), name
    assert list((root / "var").iterdir()) == [], "/var is the data partition's"


def test_nothing_of_the_machine_that_built_it(root):
    names = [str(REPOSITORY).encode(), mirror().main.encode()]
    if "." in socket.getfqdn():
        names.append(socket.getfqdn().encode())
    found = [path for path, content in texts(root) if any(name in content for name in names)]
    # Debian names its own server in documents of its own.
    found = [path for path in found if "usr/share/doc" not in str(path) and path.name not in ("packages", "os-release")]
    assert found == []


def test_no_program_gives_its_caller_more_rights(root):
    raised = [path for path in files(root) if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)]
    assert raised == []


def test_nothing_to_install_or_compile_with(root):
    for program in ("apt-get", "dpkg", "perl", "python3", "gcc", "curl", "wget", "nc", "telnet"):
        assert not (root / "usr/bin" / program).exists(), program


def test_every_program_finds_its_libraries(root):
    """Packages whose files are left out must not take a library with them that something needs."""
    programs = [path for folder in ("usr/bin", "usr/sbin", "usr/lib/systemd") for path in (root / folder).iterdir() if path.is_file() and not path.is_symlink()]
    names = ["/" + str(path.relative_to(root)) for path in programs if path.read_bytes()[:4] == b"\x7fELF"]
    assert len(names) > 200
    script = 'for f in "$@"; do ldd "$f" 2>&1 | grep "not found" | sed "s|^|$f |"; done; true'
    result = enter(root, "sh", "-c", script, "check", *names, stdout=subprocess.PIPE, text=True)
    assert result.stdout == ""


def test_only_our_presets_start_units(root):
    """A package of the list cannot start a service behind our back."""
    # Of `console@tty1.service` the preset names the template.
    wanted = {re.sub(r"@[^.]*", "@", link.name) for folder in (root / "etc/systemd/system").glob("*.wants") for link in folder.iterdir()}
    named: set[str] = set()
    for preset in sorted((root / "usr/lib/systemd/system-preset").glob("*-signalbox-*.preset")):
        named |= {line.split()[1] for line in preset.read_text().splitlines() if line.startswith("enable ")}
    # `Also=` of a unit that is named.
    companions = {"systemd-networkd.socket", "systemd-networkd-wait-online.service", "systemd-network-generator.service"}
    assert wanted - named - companions == set()
    assert "ssh.service" in wanted and "ssh.socket" not in wanted


def test_modules_for_the_usual_hypervisors_are_there(root):
    names = {path.name.split(".")[0] for path in (root / "usr/lib/modules").rglob("*.ko*")}
    for module in (
        "virtio_net", "virtio_blk", "virtio_scsi", "virtio-gpu", "vmxnet3", "vmw_pvscsi", "vmwgfx", "e1000", "e1000e", "ahci", "nvme",
        "hv_netvsc", "hv_storvsc", "hyperv_drm", "xen-netfront", "xen-blkfront", "vboxvideo", "bochs", "i6300esb", "nf_tables", "vfat",
    ):
        assert module in names, module


def test_lock_names_every_package(root):
    """The lock was written for this package list."""
    locked = image_config.read_lock()
    listed = image_config.packages()
    assert set(listed.root + listed.build) - set(locked) == set()
    assert all(re.fullmatch(r"[0-9a-f]{64}", entry.sha256) for entry in locked.values())
    assert set(listed.drop) - set(locked) == set(), "image/packages.txt drops packages that are not installed"
