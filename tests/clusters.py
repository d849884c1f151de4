"""A swarm's record for tests, which say of it what matters to them."""

from __future__ import annotations

from typing import Any

from skep.model.cluster import Cluster, SwarmSpec


def new_cluster(**said: Any) -> Cluster:
    """Returns the record of a swarm without keys, made at 0, but for what is `said`."""
    nothing = {"ca_cert_pem": b"", "ca_key_pem": b"", "worker_token_secret": "w", "manager_token_secret": "m"}
    made = {"id": "c", "spec": SwarmSpec(), "created_at": 0, "updated_at": 0}
    return Cluster(**{**made, **nothing, **said})
