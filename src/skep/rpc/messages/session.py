"""How a session begins, goes on and ends."""

from __future__ import annotations

from msgspec import Struct

from skep.model.node import NodeDescription

# Kinds of `Goodbye`
NOT_LEADER = "not-leader"  # try `leader`, where it is known, then `managers`
REMOVED = "removed"  # leave the swarm
REPLACED = "replaced"  # a newer session took over
REFUSED = "refused"  # what the node said cannot be taken: not at once again


# A feature that a node has as a manager: it keeps the cluster's `allow_self_reported_constraints`. An earlier
# one that leads writes the cluster back without it, and so with what it is by default.
SELF_REPORTED = "self-reported-constraints"
DATA_PATH = "data-path"  # the same of its `data_path`


class Lead(Struct, frozen=True, array_like=True):
    """Whose word it is: the store's incarnation (`store.codec`), and the revision at which this leader came
    to lead. Of one incarnation, the lead with the higher revision is the newer one."""

    incarnation: str
    revision: int


class Register(Struct, frozen=True, tag="register"):
    """Opens a session. The node is who its certificate says. `manager_addr`: where it is reached as a
    manager (host:port). `features`: what this agent understands that earlier ones did not.
    `engine_is_silent`: as in heartbeats. `data_addr`: where its tunnels end, if it says. `mesh_parts`: of
    which services it leads to a part, as (service id, number, count): a new leader leaves it that one."""

    description: NodeDescription
    manager_addr: str = ""
    features: list[str] = []
    engine_is_silent: bool = False
    data_addr: str = ""
    mesh_parts: list[tuple[str, int, int]] = []


class Described(Struct, frozen=True, tag="described"):
    """What the node is by now: its engine was started again, or reads its configuration anew."""

    description: NodeDescription


class StandbyWish(Struct, frozen=True, array_like=True):
    """How many standby connections each node is to keep to other managers, on average: of 1.3, each keeps one
    and three in ten keep two. It opens the next one at some time within `within_s`; none while the leader
    `is_crowded`, for nodes come to it that have no session yet."""

    each: float = 0.0
    within_s: float = 1.0
    is_crowded: bool = False


class Registered(Struct, frozen=True, tag="registered"):
    """The session stands. `managers` are addresses (host:port) to try when this one is lost. `standby`: None
    of an earlier skep's manager, to whose fellows there are no such connections."""

    heartbeat_s: float
    managers: list[str]
    role: str = "worker"
    is_member: bool = False
    features: list[str] = []  # what this manager understands that earlier ones did not
    lead: Lead | None = None  # None: an earlier skep's, which does not say
    standby: StandbyWish | None = None


class Heartbeat(Struct, frozen=True, tag="hb", omit_defaults=True):
    """I am here. `engine_is_silent`: my engine has not answered for so long that others should do my work.
    `engine_is_in_doubt`: it did not answer just now. Earlier managers pass over both."""

    engine_is_silent: bool = False
    engine_is_in_doubt: bool = False


class HeartbeatAck(Struct, frozen=True, tag="hb-ack"):
    """So am I; and this is how often to say it."""

    heartbeat_s: float
    managers: list[str]
    standby: StandbyWish | None = None  # as of now


class Goodbye(Struct, frozen=True, tag="goodbye"):
    """The manager ends the session.

    `kind` is one of the above; an agent that does not know it looks for a manager again.
    """

    kind: str
    message: str
    managers: list[str] = []
    leader: str = ""
    lead: Lead | None = None
