"""What a node is to run, and what became of it."""

from __future__ import annotations

from msgspec import Struct

from skep.model.access import HostAccess
from skep.model.cluster import TaskDefaults
from skep.model.container import PortConfig
from skep.model.generic import Claim
from skep.model.material import MaterialPayload
from skep.model.service import RegistryAuth
from skep.model.spec import TaskSpec
from skep.model.task import TaskAddress, TaskStatus
from skep.rpc.messages.session import Lead


class TaskNetwork(Struct, frozen=True, array_like=True):
    """A network that a service's tasks are on. `subnet` is an overlay's first one; `aliases` are names that
    the tasks have there; `bridge` is the one that the network is to have on every node, if it must."""

    id: str
    name: str
    driver: str
    subnet: str = ""
    is_internal: bool = False
    is_ipv6: bool = False
    aliases: list[str] = []
    driver_opts: dict[str, str] = {}
    options: dict[str, str] = {}
    config_from: str = ""
    bridge: str = ""


class ServiceTemplate(Struct, frozen=True, array_like=True):
    """What a node must know of a service to run its tasks: one version, sent once per session, and again
    when the registry's credentials have changed."""

    service_id: str
    version: int
    name: str
    labels: dict[str, str]
    spec: TaskSpec
    host_ports: list[PortConfig] = []
    registry_auth: RegistryAuth | None = None
    access: HostAccess | None = None
    networks: list[TaskNetwork] = []


class AssignedTask(Struct, frozen=True, gc=False, array_like=True):
    """One task as its node gets it."""

    id: str
    service_id: str
    spec_version: int
    slot: int
    desired_state: int
    generic: tuple[Claim, ...] = ()  # generic resources it was given
    addresses: tuple[TaskAddress, ...] = ()


class Assign(Struct, frozen=True, tag="assign", omit_defaults=True):
    """What a node is to run. `complete`: everything not named is to be stopped and forgotten. Where its
    templates are too long for one frame they come ahead, in messages that are not complete.

    `kept` are finished tasks whose containers stay for the history; `dropped` are tasks to forget;
    `removing` are services that are gone: all their tasks are to be stopped. `outdated` are templates,
    (service, version), that the node need not keep any more: they would be sent again. `defaults` is what
    tasks of this and later messages have where their specs say nothing; None: as before.
    `materials` are secrets and configs that tasks of this and later messages need, `withdrawn` those to
    forget; with `complete`, all but `held`.
    """

    complete: bool = False
    templates: list[ServiceTemplate] = []
    tasks: list[AssignedTask] = []
    kept: list[str] = []
    dropped: list[str] = []
    removing: list[str] = []
    outdated: list[tuple[str, int]] = []
    defaults: TaskDefaults | None = None
    materials: list[MaterialPayload] = []
    withdrawn: list[str] = []
    held: list[str] = []
    lead: Lead | None = None  # None: an earlier skep's


class Statuses(Struct, frozen=True, tag="statuses"):
    """The latest status of each task that changed since the last report."""

    items: list[tuple[str, TaskStatus]]
