"""What a daemon says of its part in a swarm, in Docker's words where it has some (moby, daemon/cluster)."""

from __future__ import annotations

NOT_IN_SWARM = (
    "This node is not a swarm manager. Use "
    '"docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'
)
WORKER = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. "
    "Please run this command on a manager node or promote the current node to a manager."
)
NO_LEADER = (
    "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers"
    " are online. Make sure more than half of the managers are online."
)
IN_SWARM = (
    'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
)
EXPIRED = "Swarm certificates have expired. To replace them, leave the swarm and join again."
STOPPED = "skepd is stopping."
CLOCK = (
    "this manager's clock is not within the life of its own certificate, so it would refuse those of nodes"
    " that are well: set the clock"
)
STILL_JOINING = (
    "Timeout was reached before node joined. The attempt to join the swarm will continue in the background."
    ' Use the "docker info" command to see the current swarm status of your node.'
)
TOO_LARGE = (
    "this, or what it belongs to, is larger than this version of skep stores as one value: make it again,"
    " smaller"
)
LEFT_MAX = 10  # things that could not be removed and are named: they are all of a kind, mostly
_LEAVING = "You are attempting to leave the swarm on a node that is participating as a manager. "
_LOST = (
    "The only way to restore a swarm that has lost consensus is to reinitialize it with"
    " `--force-new-cluster`. Use `--force` to suppress this message."
)


LOCKED = (
    'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to'
    " unlock it."
)
LOCKED_LEAVE = (
    "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message."
)


def listed(left: list[str]) -> str:
    """Returns what is still there of a node, in so many words at most."""
    more = [f"and {len(left) - LEFT_MAX} more"] if len(left) > LEFT_MAX else []
    return "; ".join([*left[:LEFT_MAX], *more])


def left_behind(left: list[str]) -> str:
    """Returns what to say of a node that has left, and of what is still there."""
    what = listed(left).rstrip(".")
    return (
        f"This node has left the swarm, but some of what it had could not be removed: {what}."
        " skepd goes on trying for as long as it runs; `docker rm -f` and `docker network rm` on the Docker"
        " Engine itself may help."
    )


def moved(error: str) -> str:
    """Returns what to do where a manager's address is not this machine's any more."""
    return f"{error}. Where this manager is now, `skep cluster reconnect --advertise-addr` says."


def not_forced(error: str) -> str:
    """Returns what to do where a manager did not come up as the only one."""
    return (
        f"This manager was to be the only one, and did not come up ({error or 'it was interrupted'}): nothing"
        " of the swarm runs here. Repeat `docker swarm init --force-new-cluster`, or start skepd again."
    )


def stranger(address: str, node_id: str) -> str:
    return f"at {address} is node {node_id}, which is none of the managers that this one knows: not used"


def no_quorum(managers: int) -> str:
    """Returns what to do where this manager is one of so many and cannot reach more than half of them."""
    return (
        f" This swarm has {managers} managers and needs {managers // 2 + 1} of them: start those that are"
        " down. If they are gone for good, `docker swarm init --force-new-cluster` on this one makes it"
        " the only manager, with all services."
    )


def leaving_manager(reachable: int, managers: int) -> str:
    """Returns why a manager does not leave without force. The counts are 0 where nobody knows them."""
    if managers == 0:
        return _LEAVING + "Doing so may lose the consensus of your cluster. " + _LOST
    if managers == 1:
        return (
            _LEAVING + "Removing the last manager erases all current state of the swarm. Use `--force` to"
            " ignore this message. "
        )
    text = _LEAVING
    if reachable - 1 < (managers - 1) // 2 + 1:
        text += (
            f"Removing this node leaves {reachable - 1} managers out of {managers}. Without a Raft quorum"
            " your swarm will be inaccessible. "
        )
    return text + _LOST
