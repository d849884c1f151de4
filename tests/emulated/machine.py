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
END_S = 180.0  # an engine waits ten seconds for a container that does not end
COMMAND_S = 240.0
# There is no other use for these addresses here: the wire is theirs alone.
SUBNET = "10.214.0"
_CHUNK = 1 << 16


class Machine:
    """`boots`: systemd starts what the machine's packages have it start, and the disk is there at the next
    boot. Errors: `AssertionError` with all that was said."""

    def __init__(self, made: Path, directory: Path, number: int, boots: bool = False) -> None:
        self.name = f"m{number}"
        self.address = f"{SUBNET}.{number}"
        self.packets = directory / f"{self.name}.pcap"
        self._directory = directory
        self._boots = boots
        disk, kept = made / "root.ext4", "on"
        if boots:
            disk, kept = directory / f"{self.name}.ext4", "off"
            subprocess.run(["cp", "--sparse=always", made / "root.ext4", disk], check=True)
        # No connection: each end may go and come again.
        own, other = directory / f"{self.name}.wire", directory / f"m{3 - number}.wire"
        netdev = f"dgram,id=wire,local.type=unix,local.path={own},remote.type=unix,remote.path={other}"
        words = f"console=ttyS0 panic=-1 quiet name={self.name} address={self.address}/24"
        # Without AppArmor, as where no systemd mounts what it needs: its package is not there.
        words += " system=systemd apparmor=0" if boots else ""
        command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"]
        command += ["-m", str(MEMORY_MB), "-display", "none", "-no-reboot", "-nodefaults"]
        command += ["-kernel", str(made / "vmlinuz"), "-initrd", str(made / "initrd"), "-append", words]
        command += ["-drive", f"file={disk},format=raw,if=virtio,snapshot={kept}"]
        command += ["-netdev", netdev, "-device", f"virtio-net-pci,netdev=wire,mac=52:54:00:00:00:0{number}"]
        command += ["-object", f"filter-dump,id=kept,netdev=wire,file={self.packets}"]
        command += ["-serial", f"file:{directory / self.name}.console"]
        command += ["-serial", f"unix:{self._line_path},server=on,wait=off"]
        self._command = command
        self._count = 0
        self._switch_on()

    @property
    def _line_path(self) -> Path:
        return self._directory / f"{self.name}.line"

    def _switch_on(self) -> None:
        with (self._directory / f"{self.name}.qemu").open("wb") as log:
            environment = {"TMPDIR": str(self._directory)}
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        self._line = self._connect(self._line_path)

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

    def reboot(self) -> None:
        """Has it boot anew, in good order. An emulated processor's reset takes minutes, and a new one none."""
        self.switch_off()
        self.switch_on()

    def switch_off(self) -> None:
        """Has it end in good order, and waits for that."""
        assert self._boots, "its disk would be lost"
        self._line.sendall(b"systemctl reboot\n")
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{self.name} does not end: {self._console()}") from error
        self._line.close()

    def lose_power(self) -> None:
        """What it has not written to its disk yet is lost."""
        assert self._boots, "its disk would be lost"
        self.kill()

    def switch_on(self) -> None:
        """Has it boot; returns once it does what is said."""
        self._switch_on()
        self.start()

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
