"""The image boots, and is a closed box until it is set up. With BIOS; tests/vm/test_node.py has the same with UEFI."""


def test_the_image_is_small(image):
    assert image.stat().st_size < 250e6


def test_first_boot_is_sound(untouched):
    untouched.assert_sound()
    untouched.run("! test -d /sys/firmware/efi")


def test_only_settings_and_data_can_be_written(untouched):
    untouched.run("! touch /usr/x 2>/dev/null && ! touch /x 2>/dev/null && touch /etc/x /var/x && rm /etc/x /var/x")


def test_nothing_listens_before_set_up(untouched):
    """The fence: no port but the name resolver's own on loopback."""
    listening = [line.split()[4] for line in untouched.run("ss --no-header --listening --tcp --udp --numeric").splitlines()]
    assert all(address.startswith(("127.0.0.53", "127.0.0.54")) for address in listening), listening


def test_consoles_offer_no_login_before_set_up(untouched):
    assert "login:" not in untouched.machine.tail(200)
    assert untouched.run("pgrep -x agetty || echo none").strip() == "none"
