"""Whether Prometheus will be able to ask the managers: they are asked from here, as it will ask them."""

from __future__ import annotations

import asyncio
import http.client
from typing import Any

from skep.runtime.entry import reason_of

ASK_S = 3.0  # a manager that is there answers within milliseconds
READ_BYTES = 1 << 20  # of an answer: a leader's is some tens of kB
SAID = b"\nswarm_manager_leader"  # what every manager says


async def not_askable(nodes: list[Any], port: int) -> dict[str, str]:
    """Returns why, by host name and address, of those managers among `nodes` (as the API lists them) that
    do not say their numbers at that port."""
    managers = {
        f"{node['Description']['Hostname']} ({node['Status'].get('Addr', '')})": node["Status"].get(
            "Addr", ""
        )
        for node in nodes
        if node["Spec"].get("Role") == "manager"
    }
    whys = await asyncio.gather(
        *(asyncio.to_thread(_why_not, address, port) for address in managers.values())
    )
    return {name: why for name, why in zip(managers, whys, strict=True) if why}


def _why_not(address: str, port: int) -> str:
    """Returns an empty text where it answers."""
    if not address:
        return "its address is not known"
    connection = http.client.HTTPConnection(address, port, timeout=ASK_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        said = b"\n" + answer.read(READ_BYTES)
    except (OSError, http.client.HTTPException) as error:
        return reason_of(error) if not isinstance(error, TimeoutError) else "it does not answer"
    finally:
        connection.close()
    if answer.status != http.client.OK or SAID not in said:
        return "what answers there is not skepd"
    return ""
