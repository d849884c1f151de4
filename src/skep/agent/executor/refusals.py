"""What it means that an engine refuses something, by its status and its own words. Pure.

All that is read out of an engine's errors is read here. Statuses alone are too coarse: 403 is a taken
address, a container that is on the network already, a network in use. Words alone are too loose. They are
the same in Engine 20.10 and in 28: newer ones only put more before them.
"""

from __future__ import annotations

import re

from skep.runtime.errors import SkepError

# With a name between the two words: a program that is not found may be called "network".
_NO_NETWORK = re.compile(
    r"\bnetwork \S+ not found|\bcould not find bridge \S|\bto bridge \S+ failed: Device does not exist"
)
_ON_IT_ALREADY = "already exists in network"
_BEING_REMOVED = ("is already in progress", "marked for removal")
_NAME_TAKEN = ("is already in use by container", "already exists")
_OVERLAPS = ("pool overlaps with other one", "have overlapping ipv", "have same bridge name")


class EngineError(SkepError):
    """The engine refused: its status and its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def is_absent(error: EngineError) -> bool:
    """Returns whether what the call was about is not there."""
    return error.status == 404


def is_being_removed(error: EngineError) -> bool:
    """Returns whether the engine is removing the container already, or has begun to and failed. Not: that it
    could not end it, which may be a conflict, too."""
    return error.status == 409 and any(words in str(error) for words in _BEING_REMOVED)


def is_name_taken(error: EngineError) -> bool:
    """Returns whether a container or network that was to be made has the name of another one. Podman says it
    of containers as a trouble of its own."""
    if error.status == 500 and "that name is already in use" in str(error):
        return True
    return error.status == 409 and any(words in str(error) for words in _NAME_TAKEN)


def is_on_network(error: EngineError) -> bool:
    """Returns whether the network has an endpoint of the container's name already: its own, or one that a
    broken engine has kept of another."""
    return error.status in (403, 409) and _ON_IT_ALREADY in str(error)


def is_network_gone(error: EngineError) -> bool:
    """Returns whether a container does not start because a network of its own is not there any more,
    or the bridge that it is on."""
    return _NO_NETWORK.search(str(error)) is not None


def is_not_connected(error: EngineError) -> bool:
    """Returns whether a container that was to be taken off a network is not on it."""
    words = str(error)
    return is_absent(error) or "is not connected to" in words


def is_overlap(error: EngineError) -> bool:
    """Returns whether another network of the engine has addresses, or the bridge, of the one that was to be
    made. Podman says it of the host's own, too, as a trouble of its own."""
    if error.status == 500 and "is already used on the host or by another config" in str(error):
        return True
    return error.status in (400, 403) and any(words in str(error).lower() for words in _OVERLAPS)


def may_pass(error: EngineError) -> bool:
    """Returns whether the same call may succeed a moment later: the engine's own trouble, or a container
    that it could not end just now."""
    return error.status >= 500 or error.status == 409
