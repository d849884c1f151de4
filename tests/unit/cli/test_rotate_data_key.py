"""`skep cluster rotate-data-key` waits for the change, and says why it is not there yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from skep.cli import settings
from skep.cli.settings import DATA_KEY_PATH, ROTATE_PATH, rotate_data_key
from skep.runtime.errors import Unavailable

pytestmark = pytest.mark.real_time  # its manager answers at a socket


class Manager:
    """Answers each question with the next of `answers`, the last again and again; None: nobody leads."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str] | None] = []

    async def ordered(self, request: web.Request) -> web.Response:
        return web.json_response({"Wanted": 3, "Done": 2, "Why": ""})

    async def asked(self, request: web.Request) -> web.Response:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            return web.json_response({"message": "nobody leads"}, status=503)
        return web.json_response({"Wanted": 3, "Done": answer[0], "Why": answer[1]})


@pytest.fixture
async def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Manager]:
    monkeypatch.setattr(settings, "LOOK_S", 0.01)
    made, app = Manager(), web.Application()
    app.router.add_post(ROTATE_PATH, made.ordered)
    app.router.add_get(DATA_KEY_PATH, made.asked)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "s")).start()
    yield made
    await runner.cleanup()


async def test_it_says_that_the_key_is_changed(manager: Manager, tmp_path: Path) -> None:
    manager.answers = [(2, "x"), None, (3, "")]
    assert await rotate_data_key(f"unix://{tmp_path}/s", 5) == "the data key is changed"


async def test_it_says_what_is_waited_for_in_the_end(manager: Manager, tmp_path: Path) -> None:
    manager.answers = [None, (2, "managers have an earlier skep: c")]
    with pytest.raises(Unavailable) as waits:
        await rotate_data_key(f"unix://{tmp_path}/s", 0.3)
    assert str(waits.value).startswith("the data key is not changed yet")
    assert str(waits.value).endswith("managers have an earlier skep: c")


async def test_who_does_not_wait_is_told_no_failure(manager: Manager, tmp_path: Path) -> None:
    assert "not changed yet" in await rotate_data_key(f"unix://{tmp_path}/s", 0)
