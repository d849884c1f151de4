"""Somebody who has machines."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.words import words

from .machine_hosts import ssh_key
from .skep_cli import SKEP


class User:
    """Somebody with a home of their own: a key, machines, docker contexts."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.key = ssh_key(directory)
        self.machines = directory / "machine"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")},
            "HOME": str(directory),
            "MACHINE_STORAGE_PATH": str(self.machines),
            "DOCKER_CONFIG": str(directory / "docker"),
            "GENERIC_SSH_KEY": str(self.key),
        }

    def skep(self, line: str, *values: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SKEP, *words(line, *values)],
            capture_output=True,
            text=True,
            timeout=200,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
        )

    def ok(self, line: str, *values: object, **environment: str) -> str:
        done = self.skep(line, *values, **environment)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    def fails(self, line: str, *values: object, status: int = 1, **environment: str) -> str:
        """Returns what it says on stderr, a line."""
        done = self.skep(line, *values, **environment)
        assert done.returncode == status, f"{line}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stderr

    def shell(self, script: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs what people type, with skep in the PATH."""
        path = f"{Path(SKEP).parent}:{os.environ['PATH']}"
        environment = {**self.environment, "PATH": path}
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, timeout=60, env=environment
        )
        assert not check or done.returncode == 0, f"{script}: {done.stderr}"
        return done

    def docker(self, line: str, name: str = "mg0", data: bytes = b"") -> str:
        """Returns what the docker client prints that asks a machine by its context."""
        done = subprocess.run(
            ["docker", "--context", name, *words(line)],
            input=data,
            capture_output=True,
            timeout=120,
            env=self.environment,
        )
        assert done.returncode == 0, f"docker {line}: {done.stderr.decode()}"
        return done.stdout.decode()
