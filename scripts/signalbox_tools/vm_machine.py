"""One virtual machine under QEMU: its files, its process, its monitor."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from . import host, vm_exec
from .host import TARGET, HostError, output, run, say

FIRMWARE_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
FIRMWARE_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
PORTS = {"ssh": 22, "http": 80, "https": 443, "xmpp": 5222, "xmpps": 5223, "web": 8443}
"""What is forwarded from a free port of the host's loopback, and to which port of the machine."""

ATTEMPT_SECONDS = 15


@dataclass(frozen=True)
class Options:
    """What `up` may be told."""

    firmware: str = "bios"
    memory: str = "2G"
    disk: str = "8G"
    image: Path = TARGET / "image" / "signalbox.qcow2"
    answers: Path | None = None
    ovf: bool = False
    """Whether the answers are given as OVF properties on a disc, as hypervisors do, instead of as a file on a disk."""
    blank: bool = False
    """Without answers: whether there is an empty disk for the wizard to save them on."""
    acceleration: str = "auto"


class Machine:
    """The machine whose files are in `folder`."""

    def __init__(self, name: str = "") -> None:
        self.name = name or "vm"
        self.folder = TARGET / ("vm" if not name else f"vm-{name}")
        self.disk = self.folder / "disk.qcow2"
        self.console = self.folder / "console.log"

    # -- state -----------------------------------------------------------------------------------------------------

    def state(self) -> dict:
        """What `start` wrote down; empty when there is no machine."""
        try:
            return json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}

    def save(self, name: str, content: dict) -> None:
        """Replaces a JSON file in one step, readable to its owner only (it may hold a password)."""
        path = self.folder / name
        draft = path.with_suffix(".new")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
            json.dump(content, handle, indent=2)
            handle.write("\n")
        draft.rename(path)

    def pid(self) -> int | None:
        """The process of the running machine, checked to be ours and not a later process of the same number."""
        try:
            number = int((self.folder / "qemu.pid").read_text(encoding="ascii"))
            command = Path(f"/proc/{number}/cmdline").read_bytes()
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return None
        return number if str(self.folder).encode() in command else None

    # -- life ------------------------------------------------------------------------------------------------------

    def create(self, options: Options) -> None:
        """Makes the machine's own disk from the image, its firmware variables and its answers disk."""
        if self.pid():
            raise HostError(f"the virtual machine is running already (process {self.pid()}); `scripts/vm down` ends it")
        if not options.image.exists():
            raise HostError(f"{options.image} does not exist; make it with `scripts/build-image`")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        # A copy and no overlay: the image may be built anew while this machine lives.
        run("cp", "--reflink=auto", options.image, self.disk)
        run("qemu-img", "resize", "-q", self.disk, options.disk)
        if options.firmware == "uefi":
            # qcow2, or the machine could not be saved as a snapshot.
            run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", FIRMWARE_VARS, self.folder / "vars.qcow2")
        if options.answers is not None:
            if options.ovf:
                answers_disc(options.answers, self.folder / "answers.iso")
            else:
                answers_disk(options.answers, self.folder / "answers.img")
        elif options.blank:
            blank = self.folder / "blank.img"
            label_disk(blank)
            # qcow2, as the firmware variables: what the machine writes to is part of its snapshots.
            run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", blank, private(self.folder / "saved.qcow2"))
            blank.unlink()
        self.save("state.json", {
            "firmware": options.firmware, "memory": options.memory,
            "acceleration": acceleration() if options.acceleration == "auto" else options.acceleration,
            "ports": dict(zip(PORTS, free_ports(len(PORTS)))),
        })

    def start(self, snapshot: str | None = None) -> None:
        """Starts the machine from its disk as it is."""
        state = self.state()
        if not state:
            raise HostError("there is no virtual machine; make one with `scripts/vm up`")
        if self.pid():
            raise HostError(f"the virtual machine is running already (process {self.pid()})")
        for name in ("exec.sock", "serial.sock", "monitor.sock", "qemu.pid"):
            (self.folder / name).unlink(missing_ok=True)
        command = self.command(state)
        if snapshot:
            command += ["-loadvm", snapshot]
        with open(self.folder / "qemu.log", "ab") as log:
            result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
        if result.returncode != 0:
            text = (self.folder / "qemu.log").read_text(encoding="utf-8", errors="replace")
            raise HostError(f"QEMU did not start:\n{text[-1500:]}")

    def command(self, state: dict) -> list[str]:
        """QEMU's arguments. Nothing of the machine is reachable from outside the host, and it reaches nothing."""
        folder = self.folder
        forwards = ",".join(f"hostfwd=tcp:127.0.0.1:{state['ports'][name]}-:{port}" for name, port in PORTS.items())
        accelerated = state["acceleration"] == "kvm"
        command = [
            "qemu-system-x86_64", "-name", f"signalbox-{self.name}", "-machine", "q35", "-nodefaults", "-no-user-config",
            "-accel", "kvm" if accelerated else "tcg,thread=multi", "-cpu", "host" if accelerated else "max",
            "-smp", "2", "-m", state["memory"], "-rtc", "base=utc",
            "-drive", f"file={self.disk},if=none,id=disk,format=qcow2,cache=writeback,discard=unmap",
            "-device", "virtio-blk-pci,drive=disk,bootindex=1",
            "-netdev", f"user,id=net,restrict=on,{forwards}", "-device", "virtio-net-pci,netdev=net,romfile=",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=exec,path={folder}/exec.sock,server=on,wait=off",
            "-device", f"virtserialport,chardev=exec,name={vm_exec.PORT}",
            "-chardev", f"socket,id=serial,path={folder}/serial.sock,server=on,wait=off,logfile={self.console},logappend=on",
            "-serial", "chardev:serial",
            "-vga", "std", "-display", "none", "-device", "virtio-rng-pci",
            "-device", "i6300esb", "-action", "watchdog=reset",
            "-qmp", f"unix:{folder}/monitor.sock,server=on,wait=off",
            *vm_exec.credentials(),
            "-daemonize", "-pidfile", str(folder / "qemu.pid"),
        ]
        if state["firmware"] == "uefi":
            command += [
                "-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE_CODE}",
                "-drive", f"if=pflash,format=qcow2,file={folder}/vars.qcow2",
            ]
        answers = folder / "answers.img"
        if answers.exists():
            command += [
                "-drive", f"file={answers},if=none,id=answers,format=raw,readonly=on",
                "-device", "virtio-blk-pci,drive=answers",
            ]
        saved = folder / "saved.qcow2"
        if saved.exists():
            command += ["-drive", f"file={saved},if=none,id=saved,format=qcow2", "-device", "virtio-blk-pci,drive=saved"]
        disc = folder / "answers.iso"
        if disc.exists():
            command += ["-drive", f"file={disc},if=none,id=disc,media=cdrom,format=raw,readonly=on", "-device", "ide-cd,drive=disc"]
        return command

    def restore(self, snapshot: str) -> None:
        """Puts the machine back to a snapshot, in a new process.

        Loading one into the running process leaves the guest with a time stamp counter that went on while all other
        clocks went back (QEMU 10 without acceleration): its timers stand still for as long as it had run.
        """
        if self.pid():
            self.power_cut()
        self.start(snapshot)

    def power_cut(self) -> None:
        """Ends the machine as a power cut would: what the guest had not written to its disk is gone."""
        number = self.pid()
        if number is None:
            raise HostError("the virtual machine is not running")
        os.kill(number, signal.SIGKILL)
        self._gone(number, 60)

    def press_power_button(self, seconds: float = 90) -> None:
        """Asks the machine to shut down, and waits until it has."""
        number = self.pid()
        if number is None:
            raise HostError("the virtual machine is not running")
        self.monitor("system_powerdown")
        self._gone(number, seconds)

    def shut_down(self, seconds: float = 90) -> None:
        """Shuts the machine down; one that does not react to its power button is switched off."""
        if self.pid() is None:
            return
        try:
            self.press_power_button(seconds)
        except HostError as error:
            say(f"The machine did not shut down ({error}); switching it off.")
            if self.pid():
                self.power_cut()

    def remove(self) -> None:
        """Removes everything the machine left."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def destroy(self) -> None:
        """Ends the machine if it runs, and removes everything it left."""
        if self.pid():
            self.power_cut()
        self.remove()

    @staticmethod
    def _gone(number: int, seconds: float) -> None:
        """Waits until the process has let go of everything: a dying one holds the lock on its disk a while longer."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                state = Path(f"/proc/{number}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
            except (FileNotFoundError, ProcessLookupError):
                return
            if state in "ZX":
                return
            if time.monotonic() > deadline:
                raise HostError(f"process {number} is still there after {seconds:.0f} s")
            time.sleep(0.05)

    def saved_answers(self) -> str:
        """The answer file that the wizard saved on the disk for it. The machine must be off."""
        plain = private(self.folder / "saved.img")
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", self.folder / "saved.qcow2", plain)
        return output("mtype", "-i", plain, "::answers.toml")

    # -- inside ----------------------------------------------------------------------------------------------------

    def execute(self, script: str, data: bytes = b"", seconds: float | None = None) -> tuple[int, bytes, bytes]:
        """Runs a shell script as root in the machine."""
        return vm_exec.run(self.folder, script, data, seconds)

    def wait_for(self, script: str, seconds: float) -> str:
        """Repeats a shell script in the machine until it succeeds; its output. A machine that ends is an error at once."""
        deadline = time.monotonic() + seconds
        last = ""
        while time.monotonic() < deadline:
            if self.pid() is None:
                raise HostError(f"the virtual machine ended. Its console says:\n{self.tail()}")
            try:
                # Not one long wait: a request that reaches a machine on its way down gets no answer.
                status, out, error = self.execute(script, seconds=min(ATTEMPT_SECONDS, max(1.0, deadline - time.monotonic())))
            except HostError as trouble:
                last = str(trouble)
                time.sleep(0.5)
                continue
            if status == 0:
                return out.decode(errors="replace")
            last = (out + error).decode(errors="replace").strip()
            time.sleep(0.5)
        raise HostError(f"`{script.strip()[:200]}` did not succeed within {seconds:.0f} s: {last or 'no answer'}\nThe console says:\n{self.tail()}")

    def tail(self, lines: int = 25) -> str:
        """The end of what the machine wrote to its serial console."""
        try:
            text = self.console.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return "(nothing)"
        return "\n".join(text.splitlines()[-lines:]) or "(nothing)"

    # -- QEMU's monitor --------------------------------------------------------------------------------------------

    def monitor(self, command: str, seconds: float = 60, **arguments) -> object:
        """One command to QEMU's monitor; its answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            try:
                connection.connect(str(self.folder / "monitor.sock"))
                stream = connection.makefile("rwb")
                stream.readline()
                for message in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                    stream.write(json.dumps(message).encode() + b"\n")
                    stream.flush()
                    while True:
                        answer = json.loads(stream.readline() or b'{"error": {"desc": "the machine ended"}}')
                        if "error" in answer:
                            raise HostError(f"QEMU refused `{command}`: {answer['error']['desc']}")
                        if "return" in answer:
                            break
                return answer["return"]
            except (OSError, TimeoutError) as error:
                raise HostError(f"QEMU's monitor does not answer ({error}); is the machine running?") from None

    def human(self, line: str, seconds: float = 120) -> str:
        """A command that only the monitor for people has, `savevm` among them."""
        answer = str(self.monitor("human-monitor-command", seconds, **{"command-line": line})).strip()
        if answer.lower().startswith("error"):
            raise HostError(f"QEMU: {answer}")
        return answer

    def screenshot(self, path: Path) -> None:
        """The video console as a PNG file."""
        self.monitor("screendump", filename=str(path), format="png")


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def private(path: Path) -> Path:
    """A new file that only its owner may read: it will hold passwords."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    return path


def label_disk(target: Path) -> None:
    """A small FAT disk labelled SIGNALBOX, with nothing on it."""
    host.need(["mtools", "dosfstools"])
    with open(private(target), "wb") as handle:
        handle.truncate(1 << 20)
    run("mkfs.vfat", "-n", "SIGNALBOX", target, stdout=subprocess.DEVNULL)


def answers_disk(answers: Path, target: Path) -> None:
    """The same with `answers.toml`."""
    if not answers.is_file():
        raise HostError(f"{answers} does not exist")
    label_disk(target)
    run("mcopy", "-i", target, answers, "::answers.toml")


def ovf_environment(answers: dict) -> str:
    """The answers as a hypervisor hands a machine its OVF properties: `network.hostname` for what is in a table."""
    properties = dict(flat(answers))
    lines = "".join(f"<Property oe:key={quoteattr(key)} oe:value={quoteattr(value)}/>" for key, value in properties.items())
    namespace = "http://schemas.dmtf.org/ovf/environment/1"
    return f'<Environment xmlns="{namespace}" xmlns:oe="{namespace}" oe:id="signalbox"><PropertySection>{lines}</PropertySection></Environment>\n'


def flat(table: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every answer by its name, as text."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield prefix + key, ",".join(map(str, value))
        else:
            yield prefix + key, str(value).lower() if isinstance(value, bool) else str(value)


def answers_disc(answers: Path, target: Path) -> None:
    """A disc with the answers as OVF properties."""
    host.need(["xorriso"])
    text = ovf_environment(tomllib.loads(answers.read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "ovf-env.xml").write_text(text, encoding="utf-8")
        run("xorriso", "-as", "mkisofs", "-quiet", "-J", "-R", "-V", "OVF ENV", "-o", target, folder)
    target.chmod(0o600)


def acceleration() -> str:
    """`kvm` where a kernel really boots with it, else `tcg`. /dev/kvm alone says nothing: it may be there and boot nothing."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    memory = TARGET / "cache" / f"acceleration-{boot}"
    if memory.exists():
        return memory.read_text(encoding="ascii").strip()
    kernels = [*(TARGET / "image/work/kernel").glob("vmlinuz"), *(TARGET / "cache").glob("base-*/tree/boot/vmlinuz-*")]
    if not kernels:
        return "tcg"
    command = [
        "timeout", "--signal=KILL", "15", "qemu-system-x86_64", "-nodefaults", "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256",
        "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", str(kernels[0]), "-append", "console=ttyS0 panic=-1",
    ]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    # Without a root the kernel gets as far as looking for one: that far is far enough.
    found = "kvm" if b"Kernel panic" in result.stdout else "tcg"
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(found + "\n", encoding="ascii")
    return found
