"""The image of local machines is made once, whole or not at all, whoever begins, and whoever is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from skep.machine.local import base
from skep.machine.local.base import ensure_image, image_is_whole, image_path
from skep.machine.local.plan import Image
from skep.runtime.errors import Unavailable

pytestmark = pytest.mark.root
IMAGE = Image("bookworm", "systemd", ("a", "b"))
# As base.sh, with nothing in it: it says each time that it has begun.
MAKES = """
set -eu
release=$1 init=$2 mirror=$3 to=$4
echo "$release $init $mirror" >>"$(dirname "$to")/begun"
rm -rf "$to.making"
mkdir -p "$to.making/root"
sleep {sleep_s}
{fails}
echo 7 >"$to.making/made"
mv "$to.making" "$to"
"""
MAIN = """
import asyncio, sys
from pathlib import Path
from skep.machine.local import base
from skep.machine.local.plan import Image
base.script = lambda name: ["sh", sys.argv[1]]
image = Image("bookworm", "systemd", ("a", "b"))
asyncio.run(base.ensure_image(Path(sys.argv[2]), image, "mirror", print))
"""


class Recipe:
    """A script in base.sh's place, and where it puts images."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.script, self.images = path / "make.sh", path / "images"
        monkeypatch.setattr(base, "script", lambda name: ["sh", str(self.script)])

    def is_to(self, sleep_s: float = 0.3, fails: str = "") -> None:
        self.script.write_text(MAKES.format(sleep_s=sleep_s, fails=fails))

    def begun(self) -> list[str]:
        path = self.images / "begun"
        return path.read_text().splitlines() if path.exists() else []

    async def ensure(self, said: list[str] | None = None) -> Path:
        return await ensure_image(self.images, IMAGE, "mirror", (said if said is not None else []).append)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    made = Recipe(tmp_path, monkeypatch)
    made.is_to()
    return made


async def test_those_that_begin_at_once_make_it_once(recipe: Recipe) -> None:
    said: list[str] = []
    paths = await asyncio.gather(*(recipe.ensure(said) for _ in range(5)))
    assert recipe.begun() == ["bookworm systemd mirror"]
    assert len(set(paths)) == 1
    assert image_is_whole(paths[0])
    assert f"once for all machines, in {paths[0]}" in said[0]
    assert "has 7 MB" in said[-1]
    assert f"rm -r {paths[0]}" in said[-1]
    await recipe.ensure()
    assert len(recipe.begun()) == 1


async def test_who_waits_is_told(recipe: Recipe) -> None:
    recipe.is_to(sleep_s=2.0)
    said: list[str] = []
    await asyncio.gather(recipe.ensure(), recipe.ensure(said))
    assert any("is being made by another command" in line for line in said)


async def test_one_that_fails_is_not_there_and_says_why(recipe: Recipe) -> None:
    recipe.is_to(fails="echo E: no such mirror >&2; exit 1")
    with pytest.raises(Unavailable, match="cannot be made: E: no such mirror"):
        await recipe.ensure()
    assert not image_is_whole(image_path(recipe.images, IMAGE))
    assert not list(recipe.images.glob("*.making"))
    recipe.is_to()
    assert image_is_whole(await recipe.ensure())


async def test_one_that_is_given_up_leaves_nothing(recipe: Recipe) -> None:
    recipe.is_to(sleep_s=61.23)
    making = asyncio.create_task(recipe.ensure())
    async with asyncio.timeout(20):
        while not recipe.begun():
            await asyncio.sleep(0.01)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert not list(recipe.images.glob("*.making"))
    async with asyncio.timeout(10):
        while processes("61.23"):
            await asyncio.sleep(0.01)
    recipe.is_to()
    assert image_is_whole(await recipe.ensure())


async def test_one_whose_command_is_killed_is_made_to_its_end(recipe: Recipe) -> None:
    """Nobody begins another one meanwhile: that would be in its place."""
    recipe.is_to(sleep_s=2.0)
    arguments = [sys.executable, "-c", MAIN, str(recipe.script), str(recipe.images)]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, env=dict(os.environ)) as command:
        async with asyncio.timeout(20):
            while not recipe.begun():
                await asyncio.sleep(0.01)
        command.send_signal(signal.SIGKILL)
    assert not image_is_whole(image_path(recipe.images, IMAGE))
    assert image_is_whole(await recipe.ensure())
    assert len(recipe.begun()) == 1


def processes(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
        except OSError:
            continue  # it has ended
    return found
