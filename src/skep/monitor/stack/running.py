"""What of a stack there is in a swarm, by the API: whether it runs, and what is left that nobody needs."""

from __future__ import annotations

import asyncio
import json
import secrets
from base64 import b64encode
from typing import Any
from urllib.parse import quote

from skep.client.api import ApiError
from skep.client.hosts import Hosts, Spec
from skep.monitor.stack.plan import StackPlan
from skep.runtime.errors import Unavailable

LABEL = "com.docker.stack.namespace"  # by which the docker client knows what is of a stack
LOOK_S = 1.0
PASSWORD_BYTES = 18  # 24 characters


class StackState:
    """The stack of that name, asked by the API."""

    def __init__(self, hosts: Hosts, name: str) -> None:
        self._hosts = hosts
        self._name = name

    async def parts(self) -> list[str]:
        """Returns which parts run, by their services' names; none where there is no such stack."""
        return [
            str(each["Spec"]["Name"]).removeprefix(f"{self._name}_") for each in await self._list("/services")
        ]

    async def has_password(self, name: str) -> bool:
        """True where there is that secret."""
        found = await self._hosts.call("GET", f"/secrets?filters={_filters(name=[name])}")
        return any(each["Spec"]["Name"] == name for each in found)

    async def keep_password(self, plan: StackPlan) -> str | None:
        """Makes the secret with Grafana's password where there is none. Returns the password if it is new."""
        if await self.has_password(plan.password_name):
            return None
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        data = b64encode(password.encode()).decode()
        await self._hosts.call("POST", "/secrets/create", {"Name": plan.password_name, "Data": data})
        return password

    async def wait_running(self, wait_s: float) -> list[str]:
        """Waits until all services run as they are to. Returns what does not then, and why, a line each."""
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            services = await self._list("/services", "&status=true")
            missing = [each for each in services if not _runs(each)]
            if services and not missing:
                return []
            if asyncio.get_running_loop().time() >= deadline:
                return [f"{each['Spec']['Name']}: {await self._why(each['ID'])}" for each in missing]
            await asyncio.sleep(LOOK_S)

    async def forget_configs(self) -> None:
        """Removes configs of the stack that no service has any more."""
        for config in await self._list("/configs"):
            try:
                await self._hosts.call("DELETE", f"/configs/{config['ID']}")
            except ApiError as error:
                if error.status not in (400, 404):  # in use; gone
                    raise

    async def _why(self, service_id: str) -> str:
        tasks = await self._hosts.call("GET", f"/tasks?filters={_filters(service=[service_id])}")
        tasks.sort(key=lambda task: str(task["UpdatedAt"]), reverse=True)
        for task in tasks:
            if why := task["Status"].get("Err"):
                return f"{task['Status']['State']}: {why}"
        return str(tasks[0]["Status"]["State"]) if tasks else "it has no tasks yet"

    async def _list(self, path: str, more: str = "") -> list[Spec]:
        found = await self._hosts.call(
            "GET", f"{path}?filters={_filters(label=[f'{LABEL}={self._name}'])}{more}"
        )
        if not isinstance(found, list):
            raise Unavailable(f"the answer to {path} is no list: is it a Docker Engine or skepd?")
        return found


def _runs(service: dict[str, Any]) -> bool:
    """An update that goes on has tasks of before, which count."""
    status = service.get("ServiceStatus", {})
    updating = (service.get("UpdateStatus") or {}).get("State") in ("updating", "rollback_started")
    return not updating and status.get("RunningTasks", 0) >= status.get("DesiredTasks", 1)


def _filters(**by: list[str]) -> str:
    return quote(json.dumps(by))
