"""Who wrote: each commit against who led at that moment."""

from __future__ import annotations

from skep.sim.etcd import Etcd, Peer
from skep.store import codec
from skep.store.interfaces import Txn


class Ledger:
    """Watches all commits: only the leader writes, and none of a leadership before the newest that wrote."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self._newest = 0

    def written(self, peer: Peer, txn: Txn) -> None:
        """A transaction was applied that this host's manager had asked for."""
        if all(op.key == codec.LEADER_KEY for op in txn.ops) and txn.fence is None:
            return  # a campaign
        if [op.key for op in txn.ops] == [codec.INCARNATION_KEY]:
            return  # a new cluster was forced, of a manager that is alone
        if txn.fence is None:
            self._etcd.wrong.append(f"{peer.node_id} wrote {txn.ops[0].key} without a fence")
            return
        if txn.fence.create_revision < self._newest:
            self._etcd.wrong.append(
                f"{peer.node_id} wrote {txn.ops[0].key} as the leader of {txn.fence.create_revision},"
                f" the one of {self._newest} had written"
            )
        self._newest = max(self._newest, txn.fence.create_revision)
        held = self._etcd.state.entries.get(codec.LEADER_KEY)
        if held is not None and held.value.decode() != peer.node_id:
            self._etcd.wrong.append(f"{peer.node_id} wrote {txn.ops[0].key} though {held.value!r} leads")
