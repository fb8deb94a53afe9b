"""A machine with UEFI from its unattended set-up on: chat, restart, power cuts, the other slot, power button.

One machine lives through all of it, in this order; each test leaves a node that is up.
"""

from __future__ import annotations

import secrets

import pytest
from conversation import befriend, talk
from guest import ANSWERS, BOOT_SECONDS, Node, make
from person import Person, online, scene
from slix import until

from signalbox_tools.host import run

# Keeps the disk busy with data nobody waits for, as services do.
NOISE = """
systemd-run --quiet --collect --unit=noise sh -c '
    while :; do dd if=/dev/urandom of=/var/noise bs=1M count=20 conv=notrunc; echo x >>/etc/noise; mv /var/noise /var/noise.2; done'
"""
ZONES = ("Asia/Seoul", "America/Lima")
MESSAGES = 5


@pytest.fixture(scope="module")
def node(image, tmp_path_factory):
    """A machine with UEFI that was set up by its answers disk."""
    answers = tmp_path_factory.mktemp("answers") / "answers.toml"
    answers.write_text(ANSWERS)
    machine = make("uefi", "uefi", answers)
    try:
        machine.wait_for("test -e /etc/signalbox/node.toml", BOOT_SECONDS)
        node = Node(machine, "example.test")
        node.wait_until_up()
        node.assert_services_are_up()
        yield node
    finally:
        machine.destroy()


@pytest.fixture(scope="module")
def friends(node) -> tuple[Person, Person]:
    """Alice and Bob."""
    made = tuple(Person(node, name, secrets.token_urlsafe(9)) for name in ("alice", "bob"))
    for person in made:
        node.cli("users", "add", person.user, "--password", person.password)
    return made


def test_first_boot_is_sound(node):
    node.assert_sound()
    node.run("test -d /sys/firmware/efi")


def test_answers_took_effect(node):
    assert node.run("hostname").strip() == "node1"
    assert node.run("readlink /etc/localtime").strip().endswith("Europe/Berlin")
    assert "10.0.2.15/24" in node.run("ip -4 address show dev eth0")
    assert "operator" in node.run("getent passwd operator")


def test_no_password_lies_about(node):
    for password in ("only-for-this-test", "one-for-all-nodes"):
        found = node.run(f"grep -rlsF {password} /etc /var/lib /var/log /run --exclude-dir=journal || true").split()
        assert found == [], f"{password} is readable in a file"
        assert node.run(f"journalctl --no-pager | grep -cF {password} || true").strip() == "0"


def test_machines_share_no_identity(node, fresh):
    mine = node.identity()
    assert len(mine[0]) == 32
    assert mine[0] != fresh.identity[0] and mine[1] != fresh.identity[1]


@scene(400)
async def test_two_people_talk_while_the_connection_manager_is_killed(node, friends):
    """The chat of tests/lab/test_chat.py, over the ports that lead into the machine; certificates are checked."""
    alice, bob = friends

    async def kill() -> None:
        node.run("systemctl kill --signal=KILL xmpp-connection-manager")

    async with online(alice.slix(direct_tls=True), bob.javascript()) as (a, b):
        await befriend(a, b)
        await talk(a, b, alice, bob, kill)
        # A client on a busy machine may lose patience with a connection and resume once more.
        assert a.resumptions >= 1 and b.resumptions >= 1


class Life:
    """What the node has acknowledged, and whether it is still there."""

    def __init__(self, node: Node, alice: Person, bob: Person) -> None:
        self.node, self.alice, self.bob = node, alice, bob
        self.identity = self.read_identity()
        self.users: list[str] = []

    def read_identity(self) -> str:
        return self.node.run("cat /etc/machine-id; sha256sum /etc/ssh/ssh_host_*_key /etc/signalbox/node.toml")

    async def through(self, event) -> None:
        """Alice writes to Bob, who is away, the administrator changes settings; then `event`; then everything is there."""
        number = len(self.users)
        bodies = [f"{number}.{message}" for message in range(MESSAGES)]
        zone = ZONES[number % 2]
        async with online(self.alice.slix(), presence=False) as (a,):
            self.users.append(f"user{number}")
            self.node.cli("users", "add", self.users[-1], "--password", secrets.token_urlsafe(9))
            self.node.cli("set", "timezone", zone, data=b"y\n")
            for body in bodies:
                a.write(self.bob.jid, body)
            await a.handled()
            a.staying = False
            event()
        self.node.assert_services_are_up()
        assert self.read_identity() == self.identity
        assert self.node.run("systemctl --failed --plain --no-legend") == ""
        assert self.node.run("readlink /etc/localtime").strip().endswith(zone)
        listed = self.node.cli("users", "list")
        assert all(user in listed for user in self.users), listed
        async with online(self.bob.javascript()) as (b,):
            await until("all messages have arrived", lambda: len(b.texts) >= MESSAGES)
            assert b.texts == [(self.alice.jid, body) for body in bodies]
        async with online(self.alice.slix()) as (a,):
            assert a.subscriptions() == {self.bob.jid: "both"}


@pytest.fixture(scope="module")
def life(node, friends) -> Life:
    """What is kept from here on."""
    return Life(node, *friends)


@scene(BOOT_SECONDS * 2)
async def test_messages_and_settings_survive_a_restart(node, life):
    """By an administrator's command; the node was out of attempts, which begin again."""
    def restart() -> None:
        node.set_boot_environment("A_TRY=3")
        before = node.boot_id()
        node.cli("utils", "system", "restart", data=b"y\n")
        node.restarted(before)

    await life.through(restart)
    assert node.slot() == "A"
    assert node.boot_environment()["A_TRY"] == "0"
    assert "no slot has attempts left" in node.machine.tail(400)


def cut_while_busy(node: Node) -> None:
    """The power fails while the disk is written to."""
    node.run(NOISE)
    node.machine.power_cut()
    node.start()


def cut_while_starting(node: Node) -> None:
    """The power fails, and once more while the node is coming up."""
    node.machine.power_cut()
    node.machine.start()
    node.machine.wait_for("test -e /run/signalbox/database", BOOT_SECONDS)
    node.machine.power_cut()
    node.start()


@pytest.fixture
def cuts(request) -> list:
    """Five power cuts, or with --vm-full 50. The last is in the test that comes next."""
    rounds = 16 if request.config.getoption("--vm-full") else 1
    return [cut_while_starting, cut_while_busy] * rounds + [cut_while_busy]


@scene(seconds=None)
async def test_messages_and_settings_survive_power_cuts(node, life, cuts):
    for cut in cuts:
        await life.through(lambda cut=cut: cut(node))


@scene(BOOT_SECONDS * 2)
async def test_kernel_that_cannot_be_read_after_a_power_cut_leaves_the_slot(node, life):
    def lose_slot() -> None:
        node.fill_slot_b()
        node.wipe("kernel-a")
        cut_while_busy(node)

    await life.through(lose_slot)
    assert node.slot() == "B"
    assert node.boot_environment()["A_TRY"] == "3", "a slot that cannot be loaded is not tried again and again"
    assert "grub>" not in node.machine.tail(400)


def test_power_button_shuts_down_cleanly(node):
    data = int(node.run("cat /sys/class/block/vda7/start"))
    node.machine.press_power_button()
    # The file system says by itself whether it was unmounted: ext4's superblock, s_state and s_feature_incompat.
    head = node.machine.folder / "head"
    # `count` counts from the beginning of the disk.
    run("qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=512", f"skip={data}", f"count={data + 4}", f"if={node.machine.disk}", f"of={head}")
    superblock = head.read_bytes()[1024:]
    assert superblock[0x38:0x3A] == b"\x53\xef", "this is an ext4 file system"
    assert int.from_bytes(superblock[0x3A:0x3C], "little") == 1, "data was unmounted"
    assert int.from_bytes(superblock[0x60:0x64], "little") & 4 == 0, "the journal is empty"
