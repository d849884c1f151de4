"""Unit tests run in virtual time and leave no task behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from tests.unit.left_behind import left_behind
from tests.unit.virtual_time import UnitLoop


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Which loop a test gets. A name must be there; no id of a test shows it."""
    if item.get_closest_marker("real_time") is not None:
        return {"real": asyncio.new_event_loop}
    return {"virtual": UnitLoop}


@pytest.fixture(autouse=True)
def _tidy(request: pytest.FixtureRequest) -> None:
    """First of a test's fixtures, so the last one to end: the others have ended what they began."""
    if request.node.get_closest_marker("asyncio") is not None:
        request.getfixturevalue("_no_task_left")


@pytest.fixture
async def _no_task_left() -> AsyncIterator[None]:
    """A test ends what it begins. A task that goes on is work that nobody waits for: in the product it would be a
    leak."""
    yield
    if left := await left_behind():
        pytest.fail("tasks are left behind: " + ", ".join(left), pytrace=False)
