from __future__ import annotations

from collections.abc import Iterator

import pytest

from .hosts import Swarm


@pytest.fixture(scope="module")
def swarm(
    engine_socket: str, busybox_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Swarm]:
    """A swarm of a manager and two workers on real containers, shared by the tests of a module."""
    made = Swarm(tmp_path_factory.mktemp("s"), f"unix://{engine_socket}", workers=2)
    try:
        yield made.start()
    finally:
        made.stop()
