from __future__ import annotations

from .fixtures import swarm_fixture
from .hosts import Swarm

# A swarm of a manager and two workers on real containers, shared by the tests of a module.
swarm = swarm_fixture(lambda directory, engine: Swarm(directory, engine, workers=2), on_engine=True)
