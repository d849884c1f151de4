from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.engine_roots import mixed
from tests.e2e.fixtures import starting
from tests.e2e.mesh import MeshSwarm


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshSwarm]:
    """A swarm of three hosts, each with the engine of another Debian: 12, 13, testing."""
    names = ("d12", "d13", "testing")
    with starting(MeshSwarm(tmp_path_factory.mktemp("x"), names=names, engines=mixed())) as made:
        made.manager.docker("network create -d overlay --attachable back")
        yield made
