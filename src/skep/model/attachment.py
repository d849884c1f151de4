"""Single containers on the swarm's networks: `docker run --network`, `docker network connect`."""

from __future__ import annotations

from msgspec import Struct

from .task import TaskAddress

NODE_OPTION = "com.docker.swarm.node.id"  # of a container's endpoint: the node that attached it


class Attachment(Struct, frozen=True, gc=False):
    """An address of a network that a container of a node has, from before it is made until it is gone.
    `names` lead to it, its own and its aliases: its node's word of this session, which is not stored."""

    id: str
    node_id: str
    address: TaskAddress
    created_at: float
    version: int = 0
    names: tuple[str, ...] = ()
