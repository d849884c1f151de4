"""Which containers are given a new skepd's socket, how many at once, and what is said of each."""

from __future__ import annotations

from typing import Any

import pytest

from skep.agent.executor.socket_mounts import PLACES_MAX, SocketMounts, SocketPlace

GIVEN = "/var/lib/skep/run/docker.sock"


class Engine:
    """One with running containers, by their ids' first characters."""

    def __init__(self, number: int) -> None:
        self.ids = [f"{each:012x}".ljust(64, "f") for each in range(number)]

    async def containers_with(self, source: str) -> list[dict[str, Any]]:
        mounts = [
            {"Source": source, "Destination": "/run/docker.sock"},
            {"Source": "/x", "Destination": "/y"},
        ]
        return [{"Id": each, "Mounts": mounts} for each in self.ids]

    async def inspect(self, container: str) -> dict[str, Any]:
        return {"State": {"Running": True, "Pid": 100 + self.ids.index(container)}}


async def test_each_is_told_by_its_whole_id_and_a_bounded_number_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[SocketPlace]] = []

    async def remount(self: SocketMounts, places: list[SocketPlace]) -> list[str]:
        asked.append(places)
        said = {100: "renewed", 101: "same", 102: "ended", 103: "Permission denied"}
        return [said.get(each.pid, "same") for each in places]

    monkeypatch.setattr(SocketMounts, "_remount", remount)
    engine = Engine(PLACES_MAX + 4)
    mounts = SocketMounts(engine, GIVEN)  # type: ignore[arg-type]
    await mounts.look()
    assert [len(each) for each in asked] == [PLACES_MAX, 4]
    assert [place for each in asked for place in each] == [
        SocketPlace(name, 100 + i, "/run/docker.sock") for i, name in enumerate(engine.ids)
    ]
    said = capsys.readouterr().out
    assert said.count("docker_socket.renewed") == said.count("docker_socket.stale") == 1
    assert "Permission denied" in said  # and the container to restart:
    assert engine.ids[3][:12] in said
    asked.clear()
    await mounts.look()
    assert 103 not in [place.pid for each in asked for place in each]  # said once
