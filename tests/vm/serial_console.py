"""The serial console of a machine, seen as a terminal of 80 by 24 sees it and typed on with plain keys."""

from __future__ import annotations

import re
import socket
import time

from guest import Guest

SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])")
WIDTH, HEIGHT = 80, 24


class SerialConsole:
    """What stands on the screen, and a keyboard."""

    def __init__(self, guest: Guest) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(guest.machine.folder / "serial.sock"))
        self.socket.settimeout(0.2)
        self.rest = ""
        self.cells = [[" "] * WIDTH for _ in range(HEIGHT)]
        self.x = self.y = 0

    def close(self) -> None:
        """Hangs up."""
        self.socket.close()

    def text(self) -> str:
        """The screen as lines."""
        return "\n".join("".join(line).rstrip() for line in self.cells)

    def send(self, keys: str) -> None:
        """Types."""
        self.socket.sendall(keys.encode())

    def expect(self, text: str, seconds: float = 30) -> None:
        """Waits until a text stands on the screen."""
        deadline = time.monotonic() + seconds
        while text not in self.text():
            assert time.monotonic() < deadline, f"{text!r} does not appear on\n{self.text()}"
            self.read()

    def answer(self, question: str, *lines: str, seconds: float = 30) -> None:
        """Waits for a screen, then types each line and Enter; a line must have arrived before the next one is typed."""
        self.expect(question, seconds)
        for line in lines:
            self.send(line + "\r")
            for _ in range(3):
                self.read()

    def read(self) -> None:
        """Takes in what the machine writes."""
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return
        self.rest += data.decode(errors="replace")
        while self.rest:
            if self.rest[0] == "\x1b":
                sequence = SEQUENCE.match(self.rest)
                if sequence:
                    self.control(sequence[1], sequence[2])
                    self.rest = self.rest[sequence.end():]
                elif len(self.rest) < 20:
                    return  # the end of the sequence is on its way
                else:
                    self.rest = self.rest[1:]
                continue
            self.character(self.rest[0])
            self.rest = self.rest[1:]

    def character(self, one: str) -> None:
        """A character that is no control sequence."""
        if one == "\r":
            self.x = 0
        elif one == "\n":
            self.y += 1
            if self.y >= HEIGHT:
                self.cells = [*self.cells[1:], [" "] * WIDTH]
                self.y = HEIGHT - 1
        elif one == "\b":
            self.x = max(0, self.x - 1)
        elif one >= " ":
            if self.x >= WIDTH:
                self.x = 0
                self.character("\n")
            self.cells[self.y][self.x] = one
            self.x += 1

    def control(self, numbers: str, final: str) -> None:
        """A control sequence: the cursor's place, and removal."""
        values = [int(word) for word in numbers.strip("?").split(";") if word]
        if final == "H":
            row, column = [*values, 1, 1][:2] if values else (1, 1)
            self.y, self.x = min(row, HEIGHT) - 1, min(column, WIDTH) - 1
        elif final == "J":
            self.cells = [[" "] * WIDTH for _ in range(HEIGHT)]
        elif final == "K":
            self.cells[self.y][self.x:] = [" "] * (WIDTH - self.x)
