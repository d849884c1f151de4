"""`skep monitor`: what other programs need to watch a swarm. A file for each command."""
