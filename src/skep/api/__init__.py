"""The Docker API: the swarm area answered here, everything else passed to the local engine."""
