"""The one tree of errors.

    SkepError
    ├── Invalid            what was asked makes no sense                      400
    │   ├── TooLarge       more than one write to the store may be           400
    │   ├── NoAddress      an address cannot be listened on                   400
    │   └── NoSuchAuth     where credentials are to be taken from has none    500 (Docker's own status)
    ├── NotFound           no such object                                     404
    ├── Conflict           exists already, or is in use                       409
    │   └── StaleVersion   somebody else changed the object since it was read 500 (Docker's own status)
    ├── Denied             the certificate or token does not allow it         403
    │   ├── WrongUnlockKey not the key this manager is locked with            401
    │   └── Deposed        another manager leads now: nothing was done        503
    ├── Unsupported        a feature skep does not have (yet), says so        501
    ├── Unavailable        temporarily out of reach; may be tried again       503
    │   ├── NotManager     this node cannot answer for the swarm              503
    │   │   └── NoLeader   no manager leads at the moment                     503
    │   └── OutcomeUnknown a write was sent, its answer was lost              503
    └── Corrupt            state on disk that must not be touched             500

The API maps classes to statuses in one table (api/errors.py). Whether to retry is a property of the
error (`temporary`), never a list of types at the call.
"""

from __future__ import annotations


class SkepError(Exception):
    """Anything skep reports to a user; `str(error)` is the sentence the user reads."""

    temporary = False


class Invalid(SkepError):
    """The request itself is wrong; says what and where."""


class TooLarge(Invalid):
    """The store takes no write of that size; the same write never succeeds."""


class NoAddress(Invalid):
    """This machine cannot listen at an address: it is not its own, or in use."""


class NoSuchAuth(Invalid):
    """An update takes its registry credentials from where there are none."""


class NotFound(SkepError):
    """The named object does not exist."""


class Conflict(SkepError):
    """The object exists already, or is in use by another."""


class StaleVersion(Conflict):
    """An update carried a version that is no longer the object's."""

    def __init__(self, message: str = "update out of sequence") -> None:
        super().__init__(message)


class Denied(SkepError):
    """The caller's certificate or token does not allow this."""


def cause_of(error: BaseException) -> str:
    """Returns what users are told of a connection that failed: the system's words, without a library's."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class NotAFellow(Denied):
    """A manager of the swarm says that the caller is no manager of it."""


class WrongUnlockKey(Denied):
    """The key given does not unlock this manager."""


class Deposed(Denied):
    """This manager no longer leads the swarm: the write was refused by the store."""

    temporary = True

    def __init__(self) -> None:
        super().__init__("this manager no longer leads the swarm")


class Unsupported(SkepError):
    """A feature of Docker's that skep does not have yet."""


class Unavailable(SkepError):
    """A peer, etcd or the engine cannot be reached now."""

    temporary = True


class NotManager(Unavailable):
    """This node is not an active swarm manager."""

    temporary = False


class NoLeader(NotManager):
    """No manager leads at the moment, or not this one."""

    temporary = True


class OutcomeUnknown(Unavailable):
    """A write may or may not have been committed; read before writing again."""


class Corrupt(SkepError):
    """State on disk is of another version, another node, or damaged."""
