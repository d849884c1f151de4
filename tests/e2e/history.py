"""What clients were told, checked against what is there: no acknowledged write may be missing."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence

import docker
import requests
from docker.errors import DockerException
from docker.types import ContainerSpec, ServiceMode, TaskTemplate

from .hosts import Host

PREFIX = "history-"


class History:
    """Some clients that create, scale and remove services, each its own, on managers that come and go."""

    def __init__(self, managers: Sequence[Host], clients: int, seed: int) -> None:
        self._managers = managers
        self._stopped = threading.Event()
        self.clients = [_Client(self, n, random.Random(seed * 1000 + n)) for n in range(clients)]

    def __enter__(self) -> History:
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stopped.set()
        for client in self.clients:
            client.join(60)

    @property
    def goes_on(self) -> bool:
        return not self._stopped.is_set()

    def manager(self, rng: random.Random) -> str:
        return rng.choice([m for m in self._managers if m.process is not None]).url

    def check(self, by: Host) -> int:
        """Compares with what a manager says; returns how many writes were acknowledged.

        Errors: `AssertionError`, which names the service.
        """
        api = docker.APIClient(base_url=by.url, timeout=60)
        specs = [service["Spec"] for service in api.services()]
        api.close()
        there = {
            spec["Name"]: spec["Mode"]["Replicated"]["Replicas"] for spec in specs if PREFIX in spec["Name"]
        }
        for client in self.clients:
            for name, possible in client.possible.items():
                found = there.pop(name, None)
                assert found in possible, f"{name} has {found} replicas, clients were told {possible}"
        assert not there, f"services nobody asked for: {sorted(there)}"
        return sum(client.acknowledged for client in self.clients)


class _Client(threading.Thread):
    """`possible` says for each service which states it may be in: None is gone. More than one where an
    answer was an error that leaves it open."""

    def __init__(self, history: History, number: int, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self._history = history
        self._number = number
        self._rng = rng
        self._api: docker.APIClient | None = None
        self.possible: dict[str, set[int | None]] = {}
        self.acknowledged = 0

    def run(self) -> None:
        made = 0
        while self._history.goes_on:
            certain = [n for n, p in self.possible.items() if len(p) == 1 and None not in p]
            kind = self._rng.choice(("create", "scale", "scale", "remove"))
            if kind == "create" or len(certain) < 3:
                made += 1
                self._write(f"{PREFIX}{self._number}-{made}", self._rng.randint(1, 20))
            else:
                name = self._rng.choice(certain)
                self._write(name, None if kind == "remove" else self._rng.randint(1, 40))

    def _write(self, name: str, wanted: int | None) -> None:
        before = self.possible.get(name, {None})
        self.possible[name] = before | {wanted}
        try:
            if self._api is None:
                url = self._history.manager(self._rng)
                self._api = docker.APIClient(base_url=url, timeout=60)
            if before == {None}:
                task = TaskTemplate(ContainerSpec("image"))
                self._api.create_service(task, name=name, mode=ServiceMode("replicated", wanted))
            elif wanted is None:
                self._api.remove_service(name)
            else:
                found = self._api.inspect_service(name)
                self._api.update_service(
                    found["ID"],
                    found["Version"]["Index"],
                    name=name,
                    task_template=found["Spec"]["TaskTemplate"],
                    mode=ServiceMode("replicated", wanted),
                )
        except (DockerException, requests.exceptions.RequestException):
            self._api = None  # another manager next time
            return
        self.possible[name] = {wanted}
        self.acknowledged += 1
