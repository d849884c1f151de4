"""A line to an engine that a test may cut: for the daemons behind it the engine is away, for others it is not."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from pathlib import Path


class EngineLine:
    """Passes on what comes to the socket at `path`."""

    def __init__(self, path: Path, engine_socket: str) -> None:
        self.path = path
        self._engine_socket = engine_socket
        self._listening: socket.socket | None = None
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()
        self.mend()

    def mend(self) -> None:
        """Nothing happens where it is whole."""
        if self._listening is None:
            self._listening = socket.socket(socket.AF_UNIX)
            self._listening.bind(str(self.path))
            self._listening.listen(64)
            threading.Thread(target=self._take, args=(self._listening,), daemon=True).start()

    def cut(self) -> None:
        """Ends every connection; nobody gets another."""
        if self._listening is None:
            return
        self.path.unlink()
        with self._lock:
            _end(self._listening)
            for end in self._ends:
                _end(end)
            self._listening, self._ends = None, []

    def _take(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._engine_socket)
                with self._lock:
                    self._ends += [near, far]
                for pair in (near, far), (far, near):
                    threading.Thread(target=_carry, args=pair, daemon=True).start()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError), source.makefile("rb", 0) as read, target.makefile("wb", 0) as write:
        shutil.copyfileobj(read, write, 1 << 16)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
