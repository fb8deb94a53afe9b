"""The disk image: partition table, boot loader for BIOS and UEFI, slots, data. No loop mounts and no grub-install.

Everything is made by the tools of the Debian tree in image_base, inside that tree, so that the same inputs give the same bytes.
"""

from __future__ import annotations

import os
import shutil
import struct
import tarfile
from io import BytesIO
from pathlib import Path

from . import image_base, image_config, image_initramfs
from .host import HostError, run, say
from .image_base import enter
from .image_config import IMAGE, MEBIBYTE, PARTITIONS, SECTOR, partition, start_mebibyte

GRUB_MODULES = (
    "part_gpt fat squash4 xzio search search_fs_uuid normal configfile loadenv serial test echo sleep reboot "
    "linux boot regexp terminal memdisk tar"
).split()
GRUB_PLATFORMS = {"i386-pc": ["biosdisk"], "x86_64-efi": ["efi_gop", "efi_uga"]}
GRUBENV_SIZE = 1024


class Disk:
    """Makes one disk image in a work folder; `raw` is the result."""

    def __init__(self, base: Path, root: Path, work: Path, level: int) -> None:
        self.base, self.root, self.work, self.level = base, root, work, level
        self.tree = base / "tree"
        self.raw = work / "signalbox.raw"

    def build(self) -> None:
        """All steps, in order."""
        image_base.remove(self.work)
        self.work.mkdir(parents=True)
        self._kernel_partition()
        self._root_partition()
        self._boot_loader()
        self._esp()
        self._data()
        self._assemble()

    def _enter(self, *command: str, **binds: Path) -> None:
        """Runs a tool of the tree; the work folder is /mnt there, the root that goes into the image /srv."""
        environment = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "SOURCE_DATE_EPOCH": str(image_config.epoch())}
        enter(self.tree, *command, binds={self.work: "/mnt", **{path: f"/{place}" for place, path in binds.items()}}, env=environment)

    def _squash(self, source: Path, result: str, *options: str) -> None:
        epoch = str(image_config.epoch())
        # mksquashfs refuses its time options together with the variable of the same meaning.
        environment = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        (self.work / result).unlink(missing_ok=True)
        enter(
            self.tree, "mksquashfs", "/srv", f"/mnt/{result}", "-quiet", "-no-progress", "-noappend", "-no-exports", "-no-recovery",
            "-all-time", epoch, "-mkfs-time", epoch, "-processors", str(min(2, os.cpu_count() or 1)), *options,
            binds={self.work: "/mnt", source: "/srv"}, env=environment,
        )

    def _kernel_partition(self) -> None:
        """Kernel, initramfs and kernel arguments of a slot, in the one compression GRUB reads in a squashfs."""
        folder = self.work / "kernel"
        folder.mkdir()
        kernel = next((self.tree / "boot").glob("vmlinuz-*"))
        shutil.copyfile(kernel, folder / "vmlinuz")
        shutil.copyfile(image_initramfs.build(self.base, self.work), folder / "initrd")
        shutil.copyfile(IMAGE / "grub/slot.cfg", folder / "slot.cfg")
        for path in folder.iterdir():
            path.chmod(0o644)
        folder.chmod(0o755)
        # Both files are compressed already: their blocks are stored as they are, and GRUB has less to unpack.
        self._squash(folder, "kernel.squashfs", "-comp", "xz", "-noD", "-noF", "-all-root")

    def _root_partition(self) -> None:
        self._squash(self.root, "root.squashfs", "-comp", "zstd", "-Xcompression-level", str(self.level), "-b", "256K")

    def _boot_loader(self) -> None:
        memory_disk = self.work / "memdisk.tar"
        with tarfile.open(memory_disk, "w", format=tarfile.USTAR_FORMAT) as archive:
            for name, content in (("grub", None), ("grub/grub.cfg", (IMAGE / "grub/grub.cfg").read_bytes())):
                entry = tarfile.TarInfo(name)
                entry.mtime = image_config.epoch()
                entry.mode = 0o755 if content is None else 0o644
                entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
                entry.size = len(content or b"")
                archive.addfile(entry, BytesIO(content or b""))
        shutil.copyfile(IMAGE / "grub/early.cfg", self.work / "early.cfg")
        for platform, modules in GRUB_PLATFORMS.items():
            self._enter(
                "grub-mkimage", "--format", platform, "--output", f"/mnt/{platform}", "--prefix", "(memdisk)/grub",
                "--memdisk", "/mnt/memdisk.tar", "--config", "/mnt/early.cfg", *GRUB_MODULES, *modules,
            )

    def _esp(self) -> None:
        environment = b"# GRUB Environment Block\nORDER=A B\nA_OK=1\nA_TRY=0\nB_OK=0\nB_TRY=0\n"
        (self.work / "grubenv").write_bytes(environment + b"#" * (GRUBENV_SIZE - len(environment)))
        size = partition("esp").mebibytes
        image = self.work / "esp.img"
        with open(image, "wb") as handle:
            handle.truncate(size * MEBIBYTE)
        self._enter("mkfs.vfat", "--invariant", "-F", "16", "-n", "ESP", "-i", image_config.ESP_VOLUME, "/mnt/esp.img")
        for path in (self.work / "grubenv", self.work / "x86_64-efi"):
            os.utime(path, (image_config.epoch(), image_config.epoch()))
        self._enter("mmd", "-i", "/mnt/esp.img", "::EFI", "::EFI/BOOT")
        self._enter("mcopy", "-m", "-i", "/mnt/esp.img", "/mnt/x86_64-efi", "::EFI/BOOT/BOOTX64.EFI")
        self._enter("mcopy", "-m", "-i", "/mnt/esp.img", "/mnt/grubenv", "::grubenv")

    def _data(self) -> None:
        image = self.work / "data.img"
        with open(image, "wb") as handle:
            handle.truncate(partition("data").mebibytes * MEBIBYTE)
        # The geometry of a large disk from the start, because this one will be grown to be large.
        self._enter(
            "mkfs.ext4", "-q", "-F", "-L", "data", "-T", "default", "-b", "4096", "-J", "size=32", "-m", "1",
            "-U", image_config.DATA_UUID,
            "-E", f"hash_seed={image_config.DATA_HASH_SEED},nodiscard,assume_storage_prezeroed=1,root_owner=0:0",
            "/mnt/data.img",
        )

    def _assemble(self) -> None:
        with open(self.raw, "wb") as handle:
            handle.truncate(image_config.disk_mebibytes() * MEBIBYTE)
        lines = ["label: gpt", f"label-id: {image_config.DISK_UUID}"]
        sectors = MEBIBYTE // SECTOR
        for entry in PARTITIONS:
            lines.append(
                f"start={start_mebibyte(entry.name) * sectors}, size={entry.mebibytes * sectors}, "
                f"type={entry.type}, uuid={entry.uuid}, name={entry.name}"
            )
        (self.work / "table").write_text("\n".join(lines) + "\n", encoding="ascii")
        self._enter("sh", "-c", "sfdisk --quiet /mnt/signalbox.raw </mnt/table")
        for name, file in (("esp", "esp.img"), ("kernel-a", "kernel.squashfs"), ("root-a", "root.squashfs"), ("data", "data.img")):
            self._place(name, self.work / file)
        self._bios_boot()

    def _place(self, name: str, source: Path) -> None:
        size, room = source.stat().st_size, partition(name).mebibytes * MEBIBYTE
        if size > room:
            raise HostError(f"{source.name} has {size / MEBIBYTE:.0f} MiB, the partition {name} only {room // MEBIBYTE}: see image_config.PARTITIONS")
        run("dd", f"if={source}", f"of={self.raw}", "bs=1M", f"seek={start_mebibyte(name)}", "conv=notrunc,sparse", "status=none")

    def _bios_boot(self) -> None:
        """What grub-install does for BIOS: the boot sector knows where the core image lies, the core where its rest lies."""
        boot = bytearray((self.tree / "usr/lib/grub/i386-pc/boot.img").read_bytes())
        core = bytearray((self.work / "i386-pc").read_bytes())
        room = partition("bios").mebibytes * MEBIBYTE
        if len(core) > room:
            raise HostError(f"GRUB's core image has {len(core)} bytes, its partition {room}")
        place = start_mebibyte("bios") * MEBIBYTE // SECTOR
        struct.pack_into("<Q", boot, 0x5C, place)
        boot[0x66:0x68] = b"\x90\x90"  # do not second-guess the drive number the firmware gives
        struct.pack_into("<Q", core, 0x1F4, place + 1)
        with open(self.raw, "r+b") as handle:
            handle.write(boot[:440])
            handle.seek(place * SECTOR)
            handle.write(core)

    def sizes(self) -> dict[str, int]:
        """Bytes of the parts, for people."""
        return {name: (self.work / name).stat().st_size for name in ("kernel.squashfs", "root.squashfs", "i386-pc", "x86_64-efi")}


def qcow2(raw: Path, target: Path) -> None:
    """A compressed qcow2 of the raw image."""
    say("Writing the qcow2 image …")
    temporary = target.with_suffix(".new")
    run("qemu-img", "convert", "-m", "1", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd,lazy_refcounts=off", raw, temporary)
    temporary.rename(target)


def differences(base: Path, first: Path, second: Path) -> list[str]:
    """What is not the same in two squashfs files of one build step, at most 20 paths; for the message of a failure."""
    found = []
    for archive in (first, second):
        folder = archive.with_suffix(".unpacked")
        try:
            enter(base / "tree", "unsquashfs", "-quiet", "-no-progress", "-dest", f"/mnt/{folder.name}", f"/mnt/{archive.name}",
                  binds={archive.parent: "/mnt"}, env={"PATH": "/usr/sbin:/usr/bin"})
            found.append({str(path.relative_to(folder)): _description(path) for path in folder.rglob("*")})
        finally:
            image_base.remove(folder)
    one, two = found
    return [path for path in sorted(one.keys() | two.keys()) if one.get(path) != two.get(path)][:20] or ["the same files in another order"]


def _description(path: Path) -> tuple:
    """All of a file that an image holds."""
    status = path.lstat()
    content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return status.st_mode, status.st_uid, status.st_gid, int(status.st_mtime), content
