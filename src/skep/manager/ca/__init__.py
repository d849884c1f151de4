"""The swarm's certificate authority."""
