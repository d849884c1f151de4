"""The swarm area of Docker's API, one module per kind of object; a new one is a line in `all_routes`."""

from __future__ import annotations

from msgspec import Struct

from skep.api.engine import LocalEngine
from skep.api.forward import LeaderForward
from skep.api.interfaces import SwarmNode
from skep.api.openapi import OpenApiRoutes
from skep.api.route import Route
from skep.api.routes.attachments import AttachmentRoutes
from skep.api.routes.backup import BackupRoutes
from skep.api.routes.board import BoardRoutes
from skep.api.routes.events import EventRoutes
from skep.api.routes.logs import LogRoutes
from skep.api.routes.materials import MaterialRoutes
from skep.api.routes.metrics import MetricRoutes
from skep.api.routes.net import NetRoutes
from skep.api.routes.networks import NetworkRoutes
from skep.api.routes.nodes import NodeRoutes
from skep.api.routes.own import OwnRoutes
from skep.api.routes.services import ServiceRoutes
from skep.api.routes.swarm import SwarmRoutes
from skep.api.routes.system import SystemRoutes
from skep.api.routes.tasks import TaskRoutes
from skep.api.routes.usage import UsageRoutes
from skep.api.routes.volumes import VolumeRoutes
from skep.model.docker_socket import Given, no_socket
from skep.runtime.stall import StallWatch


class ApiContext(Struct, frozen=True):
    """What routes are made with. `forward` passes on what is the leader's; None: this is the API for other
    managers. `given` is the socket that containers of managers may get."""

    node: SwarmNode
    engine: LocalEngine
    hostname: str
    stall: StallWatch
    forward: LeaderForward | None = None
    given: Given = no_socket


def all_routes(context: ApiContext) -> list[Route]:
    """Returns every route there is, those for other managers only too."""
    node, engine = context.node, context.engine
    networks = NetworkRoutes(node, engine, context.forward)
    routes = [
        *SystemRoutes(node, engine, context.hostname).routes(),
        *EventRoutes(node, engine).routes(),
        *SwarmRoutes(node).routes(),
        *NodeRoutes(node).routes(),
        *ServiceRoutes(node, engine).routes(),
        *TaskRoutes(node).routes(),
        *networks.routes(),
        *AttachmentRoutes(node, engine, networks, context.given).routes(),
        *VolumeRoutes(engine).routes(),
        *MaterialRoutes(node).routes(),
        *LogRoutes(node).routes(),
        *BoardRoutes(node).routes(),
        *OwnRoutes(node, context.stall).routes(),
        *MetricRoutes(node, context.stall).routes(),
        *NetRoutes(node).routes(),
        *UsageRoutes(node).routes(),
        *BackupRoutes(node).routes(),
    ]
    return [*routes, *OpenApiRoutes(routes).routes()]
