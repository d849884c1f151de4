"""Plans to transactions: cut along the store's keys, a few in flight, applied to the view as they land.

The leader is the only writer of tasks, and a bucket is written whole, on what it was: a write that went out,
was given up and is done late must not take back what was written after it. A bucket was written when the
youngest of its tasks was; where a write only took tasks away, one of those that are left says so.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable

import structlog
from msgspec.structs import replace

from skep.manager.asides import Asides, costs_lead
from skep.manager.confirmed_commit import check_picture, commit_confirmed
from skep.manager.signals import PerNode, ServiceDecided, TasksCommitted
from skep.manager.task_events import TaskEvents
from skep.manager.term import Term
from skep.model.aside import SERVICE
from skep.model.bounds import BUCKET_MAX_BYTES, TXN_CUT_BYTES
from skep.model.change import Change, DropRemoved, DropTask, PutService, PutTask
from skep.model.service import Service
from skep.model.task import Task
from skep.runtime.errors import Conflict, Deposed, OutcomeUnknown, TooLarge
from skep.runtime.metrics import Counter, Histogram, Metric
from skep.store import codec
from skep.store.buckets import fitted
from skep.store.interfaces import OPS_MAX, Compare, Delete, Put, Txn
from skep.store.sizes import op_bytes

log = structlog.get_logger()

SLICE = 20_000  # changes that are sorted before the loop breathes: 20 ms
IN_FLIGHT = 8  # transactions at once: one saturates neither etcd nor the loop, sixteen were no faster
# From what a disk takes at best to a majority that comes back.
COMMIT_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
DELAY_BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  # one pass, to a swarm that is full
TASKS_MAX = 1024  # changed or rewritten tasks per transaction: about 90 kB, 8 ms to apply; bytes: `sizes`

Piece = list[tuple["_Bucket", Put | Delete]]


class _Bucket:
    """What changes in one key."""

    __slots__ = ("dropped", "node_id", "put", "service_id")

    def __init__(self, node_id: str, service_id: str) -> None:
        self.node_id = node_id
        self.service_id = service_id
        self.put: dict[str, Task] = {}
        self.dropped: dict[str, Task] = {}


class Committer:
    def __init__(
        self,
        term: Term,
        task_events: TaskEvents | None = None,
        asides: Asides | None = None,
    ) -> None:
        self._term = term
        self._view = term.view
        self._task_events = task_events
        self._asides = asides
        self._gate = asyncio.Semaphore(IN_FLIGHT)
        self._written = Counter("skep_committed_tasks_total", "Tasks written, or taken out of the store.")
        self._delay = Histogram(
            "skep_scheduling_delay_seconds",
            "How long tasks took from when they were made until they had a node, in the store.",
            DELAY_BOUNDS_S,
        )
        self._took = Histogram(
            "skep_commit_seconds", "How long the transactions of decisions took.", COMMIT_BOUNDS_S
        )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (self._written, self._took, self._delay)

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        """Writes all changes; returns services whose own record had changed meanwhile (decide again).

        Errors: `Denied` when this manager no longer leads.
        """
        buckets: dict[tuple[str, str], _Bucket] = {}
        services: list[PutService] = []
        removed: list[DropRemoved] = []
        for n, change in enumerate(changes, 1):
            if isinstance(change, PutService):
                services.append(change)
            elif isinstance(change, DropRemoved):
                removed.append(change)
            else:
                self._sort_in(buckets, change)
            if n % SLICE == 0:
                await asyncio.sleep(0)
        conflicts: list[str] = []
        async with asyncio.TaskGroup() as group:
            for piece in self._pieces(buckets):
                await self._gate.acquire()
                group.create_task(self._write_buckets(piece))
            for put in services:
                await self._gate.acquire()
                group.create_task(self._write_service(put.service, conflicts))
        for drop in removed:
            await self._retried(Txn((Delete(codec.removed_key(drop.service.id)),), fence=self._term.fence))
            self._view.drop_removed(drop.service.id)
        return conflicts

    def _sort_in(self, buckets: dict[tuple[str, str], _Bucket], change: PutTask | DropTask) -> None:
        task = change.task
        key = (task.node_id, task.service_id)
        bucket = buckets.get(key)
        if bucket is None:
            bucket = buckets[key] = _Bucket(*key)
        if isinstance(change, PutTask):
            bucket.put[task.id] = task
        else:
            bucket.dropped[task.id] = task

    def _pieces(self, buckets: dict[tuple[str, str], _Bucket]) -> Iterable[Piece]:
        piece: Piece = []
        weight = size = 0
        for bucket in buckets.values():
            tasks = len(bucket.put) + len(self._view.bucket(bucket.node_id, bucket.service_id))
            try:
                op = self._op(bucket)
            except Exception as error:
                self._set_aside(bucket.service_id, error)
                continue
            own = op_bytes(op)
            full = weight + tasks > TASKS_MAX or size + own > TXN_CUT_BYTES or len(piece) == OPS_MAX
            if piece and full:
                yield piece
                piece, weight, size = [], 0, 0
            piece.append((bucket, op))
            weight += tasks
            size += own
        if piece:
            yield piece

    async def _write_buckets(self, piece: Piece) -> None:
        try:
            ops = tuple(op for _, op in piece)
            compares = tuple(self._as_it_was(bucket) for bucket, _ in piece)
            revision = await self._retried(Txn(ops, compares, self._term.fence))
        except TooLarge as error:
            if len(piece) == 1:  # left as it was: what is too much must not keep all else from being written
                bucket = piece[0][0]
                where = {"node_id": bucket.node_id, "service_id": bucket.service_id}
                log.error("store.too_large", **where, error=str(error))
                return
        except Conflict as error:
            if len(piece) == 1:  # only this leader writes tasks
                await self._check_picture(piece[0][0])
                self._set_aside(piece[0][0].service_id, error)
                return
        except Exception as error:
            if costs_lead(error):
                raise
            if len(piece) == 1:
                self._set_aside(piece[0][0].service_id, error)
                return
        else:
            self._apply([bucket for bucket, _ in piece], revision)
            return
        finally:
            self._gate.release()
        for each in piece:
            await self._gate.acquire()
            await self._write_buckets([each])

    def _as_it_was(self, bucket: _Bucket) -> Compare:
        return Compare(codec.bucket_key(bucket.node_id, bucket.service_id), self._written_at(bucket))

    def _written_at(self, bucket: _Bucket) -> int:
        tasks = self._view.bucket(bucket.node_id, bucket.service_id).values()
        return max((task.revision for task in tasks), default=0)

    async def _check_picture(self, bucket: _Bucket) -> None:
        """Errors: `Deposed` where the bucket is not as the view has it. One that cannot be read never is."""
        key = codec.bucket_key(bucket.node_id, bucket.service_id)
        if key not in self._view.quarantine:
            await check_picture(self._term.store, key, lambda: self._written_at(bucket))

    def _op(self, bucket: _Bucket) -> Put | Delete:
        after = dict(self._view.bucket(bucket.node_id, bucket.service_id))
        after.update(bucket.put)
        for task_id in bucket.dropped:
            after.pop(task_id, None)
        key = codec.bucket_key(bucket.node_id, bucket.service_id)
        return Put(key, fitted(after.values(), BUCKET_MAX_BYTES)) if after else Delete(key)

    def _apply(self, piece: list[_Bucket], revision: int) -> None:
        self._view.saw_revision(revision)
        changed: PerNode = {}
        events = self._task_events if self._task_events is not None and self._task_events.wanted else None
        for bucket in piece:
            per_node = changed.setdefault(bucket.node_id, ([], []))
            try:
                self._apply_bucket(bucket, revision, per_node, events)
            except Exception as error:
                self._set_aside(bucket.service_id, error)
        self._written.add(sum(len(bucket.put) + len(bucket.dropped) for bucket in piece))
        self._term.tell(TasksCommitted(changed))

    def _set_aside(self, service_id: str, error: Exception) -> None:
        """What is decided for the service cannot be written. Errors: the error where it costs the lead."""
        if self._asides is None:
            raise error
        self._asides.put(SERVICE, service_id, error)

    def _apply_bucket(
        self,
        bucket: _Bucket,
        revision: int,
        per_node: tuple[list[Task], list[Task]],
        events: TaskEvents | None,
    ) -> None:
        view, now = self._view, self._term.clock.now()
        for task in bucket.put.values():
            stored = replace(task, revision=revision)
            before = view.tasks.get(task.id)
            view.put_task(stored)
            if before is None:
                self._delay.observe(max(0.0, now - task.created_at))
            if events is not None:
                events.decided(before, stored)
            per_node[0].append(stored)
        for task in bucket.dropped.values():
            if events is not None:
                events.dropped(task)
            view.drop_task(task)
            per_node[1].append(task)
        if not bucket.put:
            for task in view.bucket(bucket.node_id, bucket.service_id).values():
                view.put_task(replace(task, revision=revision))
                break

    async def _write_service(self, service: Service, conflicts: list[str]) -> None:
        key = codec.service_key(service.id)
        try:
            put, known = Put(key, codec.encode_object(service)), Compare(key, service.version)
            revision = await self._retried(Txn((put,), compares=(known,), fence=self._term.fence))
        except Conflict:
            await check_picture(self._term.store, key, lambda: self._version_of(service.id))
            conflicts.append(service.id)
            return
        except TooLarge as error:
            log.error("store.too_large", service_id=service.id, error=str(error))
            return
        except Exception as error:
            self._set_aside(service.id, error)
            return
        finally:
            self._gate.release()
        self._view.saw_revision(revision)
        stored = replace(service, version=revision)
        before = self._view.services.get(service.id)
        self._view.put_service(stored)
        self._term.tell(ServiceDecided(before, stored))

    def _version_of(self, service_id: str) -> int:
        service = self._view.services.get(service_id)
        return service.version if service is not None else 0

    async def _retried(self, txn: Txn) -> int:
        """For as long as this manager leads: who cannot write leads no more anyway, and the view must not be
        less than the store. Errors: `Conflict`, `TooLarge`, `Deposed`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            revision = await commit_confirmed(self._term.store, txn, patience_s=math.inf, doubt_s=math.inf)
        except OutcomeUnknown as error:
            raise Deposed() from error
        self._took.observe(loop.time() - began)
        return revision
