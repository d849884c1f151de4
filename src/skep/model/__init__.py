"""The nouns of a swarm, frozen: specs, objects, states, changes. Pure values; no I/O, no clock."""
