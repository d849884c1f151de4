"""Emulated machines with a kernel of their own, two of them on one wire, whose packets are kept.

What `scripts/emulated.sh` made is their disk, which nothing changes: each has its own writes. A machine does
what is said at its serial line, in a shell.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import time
from pathlib import Path

MEMORY_MB = 1024
START_S = 180.0  # an emulated kernel is up within ten seconds where the processors are free
COMMAND_S = 240.0
# There is no other use for these addresses here: the wire is theirs alone.
SUBNET = "10.214.0"
_CHUNK = 1 << 16


class Machine:
    """Number 1 is the wire's end that waits for the other. Errors: `AssertionError` with all that was said."""

    def __init__(self, made: Path, directory: Path, number: int) -> None:
        self.name = f"m{number}"
        self.address = f"{SUBNET}.{number}"
        self.packets = directory / f"{self.name}.pcap"
        self._directory = directory
        line, wire = directory / f"{self.name}.line", directory / "wire"
        netdev = f"stream,id=wire,server={'on' if number == 1 else 'off'},addr.type=unix,addr.path={wire}"
        words = f"console=ttyS0 panic=-1 quiet name={self.name} address={self.address}/24"
        command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"]
        command += ["-m", str(MEMORY_MB), "-display", "none", "-no-reboot", "-nodefaults"]
        command += ["-kernel", str(made / "vmlinuz"), "-initrd", str(made / "initrd"), "-append", words]
        command += ["-drive", f"file={made / 'root.ext4'},format=raw,if=virtio,snapshot=on"]
        command += ["-netdev", netdev, "-device", f"virtio-net-pci,netdev=wire,mac=52:54:00:00:00:0{number}"]
        command += ["-object", f"filter-dump,id=kept,netdev=wire,file={self.packets}"]
        command += ["-serial", f"file:{directory / self.name}.console"]
        command += ["-serial", f"unix:{line},server=on,wait=off"]
        with (directory / f"{self.name}.qemu").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"TMPDIR": str(directory)}
            )
        self._line = self._connect(line)
        self._count = 0

    def start(self) -> Machine:
        """Waits until it does what is said."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):
                self.run("PS1= PS2=", timeout_s=5)
                return self
        raise AssertionError(f"{self.name} does not come up: {self._console()}")

    def run(self, command: str, timeout_s: float = COMMAND_S, check: bool = True) -> str:
        """Returns what the command said; fails where it fails."""
        self._count += 1
        mark = f"done-{self._count}"
        self._line.sendall(f"{{ {command}\n}} 2>&1 </dev/null; echo {mark}-$?\n".encode())
        said, deadline = "", time.monotonic() + timeout_s
        while (end := re.search(rf"^(?:.*\n)*?{mark}-(\d+)\n", said.replace("\r", ""), re.M)) is None:
            self._line.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                part = self._line.recv(_CHUNK)
            except TimeoutError as error:
                raise AssertionError(f"{self.name}, not within {timeout_s:g} s: {command}: {said}") from error
            assert part, f"{self.name} has ended: {self._console()}"
            said += part.decode(errors="replace")
        text = said.replace("\r", "").partition(f"{mark}-")[0]
        assert not check or end[1] == "0", f"{self.name}: {command}: {text}"
        return text

    def until(self, what: str, command: str, timeout_s: float = COMMAND_S) -> str:
        """Runs the command until it does not fail."""
        deadline, said = time.monotonic() + timeout_s, ""
        while time.monotonic() < deadline:
            try:
                return self.run(command)
            except AssertionError as error:
                said = str(error)
            time.sleep(1.0)
        raise AssertionError(f"not within {timeout_s:g} s: {what}: {said}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._line.close()

    def _connect(self, line: Path) -> socket.socket:
        deadline = time.monotonic() + 10
        while True:
            made = socket.socket(socket.AF_UNIX)
            try:
                made.connect(str(line))
                return made
            except OSError:
                made.close()
                log = (self._directory / f"{self.name}.qemu").read_text()
                assert time.monotonic() < deadline, log
                assert self._process.poll() is None, log
                time.sleep(0.1)

    def _console(self) -> str:
        return (self._directory / f"{self.name}.console").read_text(errors="replace")[-3000:]
