"""Power cuts: the machine comes up again, and what was acknowledged is there."""

import pytest

# Keeps the disk busy with data nobody waits for, as services do.
NOISE = """
systemd-run --quiet --collect --unit=noise sh -c '
    while :; do dd if=/dev/urandom of=/var/noise bs=1M count=20 conv=notrunc; echo x >>/etc/noise; mv /var/noise /var/noise.2; done'
"""
WRITE = """
for file in /etc/probe /var/probe; do
    echo {number} >$file.new && sync $file.new && mv $file.new $file && sync $(dirname $file)
done
"""


@pytest.fixture
def cuts(request) -> range:
    """How often the power is cut."""
    return range(50 if request.config.getoption("--vm-full") else 5)


def test_settings_survive_power_cuts(bios, cuts):
    identity = bios.run("cat /etc/machine-id")
    for cut in cuts:
        bios.run(NOISE)
        for step in range(3):
            bios.run(WRITE.format(number=f"{cut}.{step}"))
        bios.machine.power_cut()
        bios.machine.start()
        bios.wait_until_up()
        assert bios.run("cat /etc/probe /var/probe").split() == [f"{cut}.2"] * 2
        assert bios.run("cat /etc/machine-id") == identity
        assert bios.run("systemctl --failed --plain --no-legend") == ""


def test_power_button_shuts_down_cleanly(uefi):
    uefi.run("echo kept >/var/kept")
    uefi.machine.shut_down()
    uefi.machine.start()
    uefi.wait_until_up()
    assert uefi.run("cat /var/kept").strip() == "kept"
    assert "recovering journal" not in uefi.run("journalctl --boot --no-pager --identifier=signalbox"), "data was not unmounted"
