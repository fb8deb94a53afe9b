"""GRUB counts attempts, takes the other slot, and never stops at a prompt."""

from signalbox_tools.host import run

# Slot B becomes a copy of slot A; only as much as the file systems hold.
FILL_B = """
part=/dev/disk/by-partlabel
dd if=$part/kernel-a of=$part/kernel-b bs=1M count=32 conv=notrunc
dd if=$part/root-a of=$part/root-b bs=1M count=$(($(findmnt --noheadings --bytes --output SIZE --mountpoint /) / 1048576 + 1)) conv=notrunc
sync
"""
WIPE = "dd if=/dev/zero of=/dev/disk/by-partlabel/{name} bs=1M count=1 conv=fsync,notrunc 2>&1"


def restart(guest) -> str:
    """Orders a restart; the boot id from before."""
    before = guest.boot_id()
    guest.run("systemctl --no-block reboot")
    return before


def test_kernel_that_cannot_be_read_leaves_the_slot(guest):
    guest.run(FILL_B, seconds=120)
    guest.set_boot_environment("B_OK=1")
    guest.run(WIPE.format(name="kernel-a"))
    guest.restarted(restart(guest))
    assert guest.slot() == "B"
    assert guest.boot_environment()["A_TRY"] == "3", "a slot that cannot be loaded is not tried again and again"
    assert "grub>" not in guest.machine.tail(400)


def test_root_that_cannot_be_mounted_restarts_into_the_other_slot(bios):
    bios.run(FILL_B, seconds=120)
    bios.set_boot_environment("B_OK=1", "A_TRY=2")
    bios.run(WIPE.format(name="root-a"))
    before = bios.boot_id()
    # The root under the running system is gone: nothing can be shut down any more.
    bios.machine.monitor("system_reset")
    bios.restarted(before)
    assert bios.slot() == "B"
    assert bios.boot_environment()["A_TRY"] == "3"
    assert "The root of slot a" in bios.machine.tail(400)


def test_attempts_begin_again_when_no_slot_has_any_left(uefi):
    uefi.set_boot_environment("A_TRY=3")
    uefi.restarted(restart(uefi))
    assert uefi.slot() == "A"
    assert uefi.boot_environment()["A_TRY"] == "0"
    assert "no slot has attempts left" in uefi.machine.tail(400)


def test_panic_restarts_the_machine(bios):
    before = bios.boot_id()
    bios.run("echo 1 >/proc/sys/kernel/sysrq; (sleep 1; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &")
    bios.restarted(before)
    assert bios.slot() == "A"


def test_data_partition_that_is_damaged_is_repaired(bios):
    """The superblock and the group descriptors are lost; their copies further on are not."""
    bios.run("echo kept >/etc/kept; sync")
    start = int(bios.run("cat /sys/class/block/vda7/start")) * 512
    # Not a power cut: with the superblock goes the note that the journal is still to be worked off.
    bios.machine.shut_down()
    run("qemu-io", "--format", "qcow2", "--cmd", f"write -P 0 {start} 8192", bios.machine.disk)
    bios.machine.start()
    bios.wait_until_up()
    assert bios.run("cat /etc/kept").strip() == "kept"
    assert "needs a repair" in bios.run("journalctl --boot --no-pager --dmesg")
