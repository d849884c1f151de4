"""The swarm area of Docker's API, one module per kind of object."""
