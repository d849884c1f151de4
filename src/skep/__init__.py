"""skep: a container swarm you can run, grow and trust. Start at docs/ARCHITECTURE.md."""

__version__ = "0.1.0"
