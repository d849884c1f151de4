"""`skep bench`: a swarm on this machine, measured from outside."""
