"""A machine becomes a node, through the first manager that answers."""

from __future__ import annotations

from skep.agent.executor.interfaces import Executor
from skep.api.interfaces import JoinRequest
from skep.daemon.addresses import parse_address
from skep.model.node import NodeDescription
from skep.rpc.enrol import Enrolment, enrol
from skep.runtime.errors import SkepError, Unavailable


async def enrol_with_any(request: JoinRequest, hostname: str, executor: Executor, now: float) -> Enrolment:
    """Errors: `Invalid`, `Denied`; `Unavailable`, which names each address that did not answer."""
    try:
        await executor.start("", lambda seen: None)
        description = await executor.describe()
    except Unavailable:
        description = NodeDescription(hostname=hostname)
    finally:
        await executor.close()
    failures: list[SkepError] = []
    for address in request.remote_addrs:
        host, port = parse_address(address)
        try:
            return await enrol(
                host, port, request.join_token, description, request.availability, now, stays=True
            )
        except Unavailable as error:
            failures.append(error)
    raise Unavailable("; ".join(str(error) for error in failures))
