"""How much room the store has for the tasks of a service on a node, which are one value of it. Pure."""

from __future__ import annotations

from skep.model.bounds import BUCKET_MAX_BYTES, NAMED_CLAIMS_MAX_BYTES, REPLICAS_MAX, TASK_BYTES
from skep.model.task import Task
from skep.store.view import View

ROOM_BYTES = BUCKET_MAX_BYTES - NAMED_CLAIMS_MAX_BYTES
CROWD_MIN = 100  # tasks: the largest, with an address on every network that may be, are some 250 to a bucket


def task_bytes(view: View, service_id: str) -> int:
    """Returns how much of its bucket a task of the service takes at most, whatever its version."""
    service = view.services.get(service_id)
    versions = [template.version for template in service.templates] if service is not None else [0]
    return max(view.demand(service_id, version).stored_bytes for version in versions)


def room_for(view: View, node_id: str, service_id: str, each_bytes: int) -> int:
    """Returns how many more tasks of a service a node may get; `each_bytes`: what one takes at most."""
    bucket = view.bucket(node_id, service_id)
    taken = len(bucket) * each_bytes
    if taken > ROOM_BYTES // 2 and each_bytes > TASK_BYTES:  # else it is right enough, and at no cost
        ended = sum(1 for task in bucket.values() if task.result is not None)
        taken -= ended * (each_bytes - TASK_BYTES)
    return max(0, ROOM_BYTES - taken) // each_bytes


def is_crowded(view: View, task: Task) -> bool:
    """True where a task's bucket, or the swarm, is so full that history has to go before its time."""
    if len(view.tasks) > REPLICAS_MAX:
        return True
    count = len(view.bucket(task.node_id, task.service_id))
    return count >= CROWD_MIN and count * task_bytes(view, task.service_id) > ROOM_BYTES // 2
