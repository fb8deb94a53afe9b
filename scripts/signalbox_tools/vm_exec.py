"""Running commands as root inside a virtual machine, over a virtio serial port that only QEMU's owner has.

Nothing in the image listens for this. A virtual machine started by scripts/vm is handed a unit in its SMBIOS table, as a
systemd credential; the unit is a few lines of shell that read the port. Whoever can write the SMBIOS table owns the
disk too, so nobody gains a way in. A machine started without the credential has no such unit.
"""

from __future__ import annotations

import base64
import fcntl
import re
import secrets
import socket
import time
from pathlib import Path

from .host import HostError

PORT = "signalbox.exec"
UNIT = "vm-exec.service"

# A request is a line `ID COMMAND-LENGTH INPUT-LENGTH`, then so many bytes; an answer the line `--ID STATUS OUT-LENGTH
# ERROR-LENGTH`, then so many bytes. The read at the top ends at once while nobody is connected, hence the pause.
AGENT = r"""
port=
until [ -n "$port" ]; do
    for file in /sys/class/virtio-ports/*/name; do
        if [ "$(cat "$file" 2>/dev/null)" = signalbox.exec ]; then port=/dev/$(basename "$(dirname "$file")"); fi
    done
    [ -c "$port" ] || { port=; sleep 0.2; }
done
exec 3<>"$port"
work=$(mktemp -d)
while :; do
    if ! IFS=' ' read -r -u 3 id command input; then sleep 0.1; continue; fi
    case "$command$input" in '' | *[!0-9]*) continue ;; esac
    head -c "$command" <&3 >"$work/command"
    head -c "$input" <&3 >"$work/input"
    bash "$work/command" <"$work/input" >"$work/output" 2>"$work/error" 3>&-
    status=$?
    printf '\n--%s %s %s %s\n' "$id" "$status" "$(stat -c %s "$work/output")" "$(stat -c %s "$work/error")" >&3
    cat "$work/output" "$work/error" >&3
done
"""

DROP_IN = f"[Unit]\nWants={UNIT}\n"


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def unit() -> str:
    """The unit that the machine is handed."""
    return (
        "[Unit]\nDescription=Commands from the owner of this virtual machine (test)\n"
        "[Service]\nType=exec\nExecStart=/bin/bash\nStandardInput=data\nRestart=always\nRestartSec=1\n"
        "KillMode=process\nOOMScoreAdjust=-900\nEnvironment=HOME=/root LC_ALL=C.UTF-8\n"
        f"StandardInputData={_encode(AGENT)}\n"
    )


def credentials() -> list[str]:
    """QEMU arguments that hand the unit over."""
    prefix = "type=11,value=io.systemd.credential.binary:"
    return [
        "-smbios", f"{prefix}systemd.extra-unit.{UNIT}={_encode(unit())}",
        "-smbios", f"{prefix}systemd.unit-dropin.basic.target~vm-exec={_encode(DROP_IN)}",
    ]


class _Reader:
    """Reads an answer from the port, with one deadline for all of it."""

    def __init__(self, connection: socket.socket, deadline: float | None) -> None:
        self.connection, self.deadline, self.buffer = connection, deadline, b""

    def more(self) -> None:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.connection.settimeout(left)
        data = self.connection.recv(1 << 16)
        if not data:
            raise ConnectionError
        self.buffer += data

    def head(self, identity: str) -> tuple[int, int, int]:
        """What stands before the answer is left from a caller that did not wait for its own."""
        pattern = re.compile(rb"\n--" + identity.encode() + rb" (\d+) (\d+) (\d+)\n")
        while True:
            found = pattern.search(self.buffer)
            if found:
                self.buffer = self.buffer[found.end():]
                return int(found[1]), int(found[2]), int(found[3])
            self.more()

    def take(self, length: int) -> bytes:
        while len(self.buffer) < length:
            self.more()
        taken, self.buffer = self.buffer[:length], self.buffer[length:]
        return taken


def run(folder: Path, script: str, data: bytes = b"", seconds: float | None = None) -> tuple[int, bytes, bytes]:
    """Runs a shell script in the machine: its exit status, output and error output."""
    identity = secrets.token_hex(8)
    text = script.encode()
    deadline = None if seconds is None else time.monotonic() + seconds
    if not (folder / "exec.sock").exists():
        raise HostError("the virtual machine is not running; start it with `scripts/vm up`")
    with open(folder / "exec.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.settimeout(seconds)
                connection.connect(str(folder / "exec.sock"))
                connection.sendall(f"\n{identity} {len(text)} {len(data)}\n".encode() + text + data)
                reader = _Reader(connection, deadline)
                status, output, error = reader.head(identity)
                return status, reader.take(output), reader.take(error)
            except (FileNotFoundError, ConnectionRefusedError):
                raise HostError("the virtual machine is not running; start it with `scripts/vm up`") from None
            except ConnectionError:
                raise HostError("the virtual machine went away while the command ran") from None
            except TimeoutError:
                raise HostError(f"no answer from the virtual machine within {seconds:.0f} s; see `scripts/vm log`") from None
