"""The link between managers and agents: length-prefixed frames over mutual TLS."""
