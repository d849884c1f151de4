"""Single containers on the swarm's networks: addresses are asked for, given, and counted."""

from __future__ import annotations

from msgspec import Struct

from skep.model.task import TaskAddress
from skep.rpc.messages.tasks import TaskNetwork
from skep.runtime import errors
from skep.runtime.errors import SkepError, Unavailable

ATTACH = "attach"  # a feature: the node understands `SayAddresses`, the manager `Attach` and `HasAddresses`


class Attach(Struct, frozen=True, tag="attach"):
    """A container of the node is to be on a network (its name, its id, or the begin of one). `address` is the
    one it is to have, if its user says so. `number`: which question it is, for the answer."""

    number: int
    network: str
    address: str = ""


class Attached(Struct, frozen=True, tag="attached"):
    """The address is the container's until the node says that it is not in use."""

    number: int
    network: TaskNetwork
    address: TaskAddress


class NotAttached(Struct, frozen=True, tag="not-attached"):
    """Why not: `kind` is the name of an error (`runtime.errors`), `reason` its sentence."""

    number: int
    kind: str
    reason: str

    def as_error(self) -> SkepError:
        """Returns the manager's error as one of ours; a kind that is not known here may be tried again."""
        kind = getattr(errors, self.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, SkepError)):
            return Unavailable(self.reason)
        try:
            return kind(self.reason)
        except TypeError:  # its words are always the same, and its own: `Deposed`
            return kind()


class SayAddresses(Struct, frozen=True, tag="say-addresses"):
    """The node is to say which addresses of single containers are in use."""


class HasAddresses(Struct, frozen=True, tag="has-addresses", omit_defaults=True):
    """What single containers of the node have; they have no others. `names` are those that lead to each, in
    the same order; an earlier agent says none."""

    in_use: list[TaskAddress]
    names: list[tuple[str, ...]] = []
