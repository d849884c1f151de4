"""Managers that all slept past their certificates' end: the swarm is not lost."""

from __future__ import annotations

import time

import pytest

from skep.rpc.certificates import load_keys, validity_of

from .hosts import wait_until
from .managers import Managers, create, info, wait_running
from .test_enrolment import expire


@pytest.mark.timeout(180)
def test_one_of_them_brings_the_swarm_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    swarm = Managers(tmp_path_factory.mktemp("x"), managers=3, workers=1)
    try:
        swarm.start()
        create(swarm.first, "kept", 4)
        wait_running(swarm.first, "kept", 4)
        for manager in swarm.managers:
            manager.stop()
            expire(manager, is_ca_kept=True)
        first = swarm.first.start()
        assert "Swarm certificates have expired" in info(first)["Error"]
        done = first.run("service ls", check=False)
        assert "Swarm certificates have expired" in done.stderr
        first.docker("swarm init --force-new-cluster")
        assert first.docker("service ls --format {{.Name}}") == "kept"
        _, not_after = validity_of(load_keys(first.state_dir / "certificates").certificate_pem)
        assert not_after > time.time()
        wait_until("the worker follows", lambda: swarm.nodes(first)["w0"][0] == "Ready")
        second = swarm.managers[1].start()
        second.docker("swarm leave --force")
        swarm.join(second, "manager")
        swarm.wait_reachable(2, first)
    finally:
        swarm.stop()
