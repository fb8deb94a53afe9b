"""GRUB counts attempts, takes the other slot, and never stops at a prompt; with BIOS. tests/vm/test_node.py has UEFI."""

from signalbox_tools.host import run


def test_panic_restarts_and_a_kernel_that_cannot_be_read_leaves_the_slot(bios):
    bios.fill_slot_b()
    bios.wipe("kernel-a")
    before = bios.boot_id()
    bios.run("echo 1 >/proc/sys/kernel/sysrq; (sleep 1; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &")
    bios.restarted(before)
    assert "sysrq triggered crash" in bios.machine.tail(400)
    assert bios.slot() == "B"
    assert bios.boot_environment()["A_TRY"] == "3", "a slot that cannot be loaded is not tried again and again"
    assert "grub>" not in bios.machine.tail(400)


def test_root_that_cannot_be_mounted_restarts_into_the_other_slot(bios):
    bios.fill_slot_b()
    bios.set_boot_environment("A_TRY=2")
    before = bios.boot_id()
    bios.wipe("root-a")
    # The root under the running system is gone: nothing can be shut down any more.
    bios.machine.monitor("system_reset")
    bios.restarted(before)
    assert bios.slot() == "B"
    assert bios.boot_environment()["A_TRY"] == "3"
    assert "The root of slot a" in bios.machine.tail(400)


def test_data_partition_that_is_damaged_is_repaired(bios):
    """The superblock and the group descriptors are lost; their copies further on are not."""
    bios.run("echo kept >/etc/kept; sync")
    start = int(bios.run("cat /sys/class/block/vda7/start")) * 512
    # Not a power cut: with the superblock goes the note that the journal is still to be worked off.
    bios.machine.shut_down()
    run("qemu-io", "--format", "qcow2", "--cmd", f"write -P 0 {start} 8192", bios.machine.disk)
    bios.start()
    assert bios.run("cat /etc/kept").strip() == "kept"
    assert "needs a repair" in bios.run("journalctl --boot --no-pager --dmesg")
