"""The leader is killed again and again in the middle of work; what clients were told stays true."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from .history import History
from .hosts import wait_until
from .managers import Managers, create

ROUNDS = 10  # nine seconds each
REPLICAS = 400


@pytest.mark.timeout(600)
def test_the_leader_is_killed_during_every_scale_up(tmp_path_factory: pytest.TempPathFactory) -> None:
    swarm = Managers(tmp_path_factory.mktemp("r"), managers=3, workers=2)
    rng = random.Random(3)
    try:
        swarm.start()
        create(swarm.first, "big", 0)
        with History(swarm.managers, clients=2, seed=3) as history:
            for number in range(ROUNDS):
                leader, other = swarm.leader(), swarm.followers()[0]
                replicas = REPLICAS if number % 2 == 0 else REPLICAS // 10
                other.docker("service scale -d big={}", replicas)
                time.sleep(rng.uniform(0, 0.5))
                leader.kill()
                wait_until("another one leads", lambda o=other: swarm.leader(o).process is not None, 30)
                leader.start(wait_for=("info",))
                swarm.wait_reachable(3, other)
        assert history.check(swarm.first) > 5 * ROUNDS
        other = swarm.managers[1]
        other.docker("service scale -d big={}", REPLICAS)
        wait_until("all run", lambda: len(other.running("big")) == REPLICAS, 60)
        slots = Counter(row["Name"] for row in other.running("big"))
        assert set(slots.values()) == {1}
        assert len(slots) == REPLICAS
        assert len(other.tasks("big", "desired-state=running")) == REPLICAS
    finally:
        swarm.stop()
