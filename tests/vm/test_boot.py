"""The image boots with both kinds of firmware, and is a closed box until it is set up."""


def test_no_unit_failed(guest):
    assert guest.run("systemctl is-system-running").strip() == "running"
    assert guest.run("systemctl --failed --plain --no-legend") == ""


def test_firmware_is_the_one_asked_for(bios, uefi):
    uefi.run("test -d /sys/firmware/efi")
    assert bios.run("test -d /sys/firmware/efi || echo BIOS").strip() == "BIOS"


def test_data_partition_fills_the_disk(guest):
    sectors = int(guest.run("cat /sys/class/block/vda/size"))
    end = sum(int(guest.run(f"cat /sys/class/block/vda7/{name}")) for name in ("start", "size"))
    assert sectors - end < 4096
    size = int(guest.run("findmnt --noheadings --bytes --output SIZE --mountpoint /data"))
    assert size > 6 << 30, "the file system was not grown with its partition"


def test_boot_is_marked_good(guest):
    environment = guest.boot_environment()
    assert (environment["A_OK"], environment["A_TRY"]) == ("1", "0")


def test_only_settings_and_data_can_be_written(guest):
    guest.run("! touch /usr/x 2>/dev/null && ! touch /x 2>/dev/null && touch /etc/x /var/x && rm /etc/x /var/x")


def test_nothing_listens_before_set_up(guest):
    """The fence: no port but the name resolver's own on loopback."""
    listening = [line.split()[4] for line in guest.run("ss --no-header --listening --tcp --udp --numeric").splitlines()]
    assert all(address.startswith(("127.0.0.53", "127.0.0.54")) for address in listening), listening


def test_consoles_offer_no_login_before_set_up(guest):
    assert "login:" not in guest.machine.tail(200)
    assert guest.run("pgrep -x agetty || echo none").strip() == "none"


def test_two_machines_share_no_identity(bios, uefi):
    script = "cat /etc/machine-id; sha256sum </var/lib/systemd/random-seed"
    first, second = bios.run(script).split(), uefi.run(script).split()
    assert len(first[0]) == 32
    assert first[0] != second[0] and first[1] != second[1]


def test_watchdog_is_fed(guest):
    assert "RuntimeWatchdogUSec=1min" in guest.run("systemctl show --property=RuntimeWatchdogUSec")
    assert guest.run("cat /sys/class/watchdog/watchdog0/state").strip() == "active"
