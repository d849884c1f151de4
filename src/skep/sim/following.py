"""Users who follow the logs of a service: no line twice, and none lost until the end that they are told."""

from __future__ import annotations

import asyncio

from skep.manager.leader import Leader
from skep.manager.logs.lines import STDERR
from skep.manager.logs.reader import LogReader
from skep.model.logs import LogOptions, LogSelection
from skep.rpc.log_frames import HEADER
from skep.sim.hosts import Host
from skep.sim.violation import Violation
from skep.sim.world import World

BEHIND_MAX = 3  # lines that a follower may lack of what is there: they are on their way


class Follower:
    """One `docker service logs -f` by a manager; `wrong` says what must never be."""

    def __init__(self, world: World, leader: Leader, service_id: str) -> None:
        self._world = world
        self.service_id = service_id
        self._lines: dict[str, int] = {}  # task -> how many of its lines came
        self._machines: dict[str, int] = {}  # task -> which life of its machine these are of
        self._hosts: dict[str, Host] = {}
        self._told = ""
        self.wrong = ""
        self.reader: LogReader = leader.logs.open(
            LogSelection(service_id), LogOptions(follow=True), "", False
        )

    async def run(self) -> str:
        """Follows to the end; returns the last word."""
        try:
            async for part in self.reader.parts():
                self._take(part)
        finally:
            self.reader.close()
        return self._told

    @property
    def was_told(self) -> bool:
        """True where the end was announced; there is no line to say so on where no task has put out any."""
        return "no longer leads" in self._told or not self._lines

    def _take(self, part: bytes) -> None:
        at = 0
        while at < len(part):
            stream, length = HEADER.unpack_from(part, at)
            text = part[at + HEADER.size : at + HEADER.size + length].decode()
            at += HEADER.size + length
            if stream == STDERR:
                self._told = text.strip()
                continue
            _, number, _, task_id = text.split()
            due = self._lines.get(task_id, 0)
            host = self._host_of(task_id)
            known = 0 if host is None else self._machines.setdefault(task_id, host.machines)
            if host is not None and known != host.machines and number == "0":
                self._machines[task_id], due = (
                    host.machines,
                    0,
                )  # its container was lost, another one made
            if int(number) != due and not self.wrong:
                self.wrong = f"a follower got line {number} of task {task_id}, the next one was {due}"
            self._lines[task_id] = due + 1

    def _host_of(self, task_id: str) -> Host | None:
        """Returns where the task was seen; its containers may be gone while lines are on their way."""
        found = [h for h in self._world.hosts.values() if h.executor.state_of(task_id) is not None]
        if found:
            self._hosts[task_id] = found[0]
        return self._hosts.get(task_id)

    def lacks(self) -> str:
        """Returns which task's lines have not come; an empty text where they are there but for the newest."""
        for host in self._world.present():
            for task_id, count in host.executor.lines_of(self.service_id).items():
                if self._lines.get(task_id, 0) + BEHIND_MAX < count:
                    return f"a follower has {self._lines.get(task_id, 0)} of {count} lines of {task_id}"
        return ""


class Followers:
    """`run` follows one service after the other, for as long as each lasts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._now: Follower | None = None

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            leader = self._world.leader()
            host = self._world.leading(leader.node_id) if leader is not None else None
            services = (
                [] if leader is None else [s for s in leader.view.services.values() if not s.spec.is_job]
            )
            if leader is None or host is None or not leader.is_sure or not services:
                continue
            service = max(services, key=lambda each: sum(1 for _ in leader.view.tasks_of_service(each.id)))
            life, self._now = host.lives, Follower(self._world, leader, service.id)
            told = await host.do(self._now.run())
            lives = host.is_up and host.lives == life  # otherwise its clients see their connections break
            if lives and service.id in leader.view.services and not self._now.was_told:
                self._now.wrong = self._now.wrong or f"a follow ended without a word, the last was {told!r}"

    def check(self) -> None:
        """Errors: `Violation`."""
        if self._now is not None and self._now.wrong:
            raise Violation(self._now.wrong)

    def lacks(self) -> str:
        """Returns what the one who follows has not got in the end."""
        return "" if self._now is None else self._now.lacks()
