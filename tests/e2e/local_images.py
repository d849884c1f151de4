"""The image of local machines that tests have: made once and kept. `python -m tests.e2e.local_images` makes it, where
packages can be reached: not in a lane."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from skep.machine.local.base import ensure_image
from skep.machine.local.plan import Image, image_of
from skep.machine.store import MachineStore

from .machine_user import User

IMAGES = Path(os.environ.get("SKEP_FRESH_CACHE", "/var/cache/skep")) / "machines"
RELEASE = os.environ.get("SKEP_LOCAL_RELEASE", "bookworm")  # by hand: trixie, testing


def local_image() -> Image:
    return image_of(RELEASE, has_groups_v2=Path("/sys/fs/cgroup/cgroup.controllers").exists())


class Owner(User):
    """Somebody with machines of their own, on a network of their own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.hosts = directory / "hosts-here"
        self.environment.update(
            LOCAL_DIRECTORY=str(self.hosts), LOCAL_BASE_DIRECTORY=str(IMAGES), LOCAL_RELEASE=RELEASE
        )
        self.store = MachineStore(self.machines)
        self.seen: set[str] = set()  # what its machines were called as hosts

    def docker_by_config(self, name: str, line: str) -> str:
        return self.shell(f"docker $(skep machine config {name}) {line}").stdout.strip()

    def on(self, name: str, script: str) -> str:
        """Returns what a script says on the machine."""
        return self.ok("machine ssh {} {}", name, script).strip()

    def host(self, name: str) -> str:
        return str(self.store.load(name).details["Host"])

    def init(self, name: str) -> int:
        return int((self.hosts / "hosts" / self.host(name) / "init").read_text().split()[0])


if __name__ == "__main__":
    asyncio.run(ensure_image(IMAGES, local_image(), "", print))
