"""The control API: checks what a user asks, writes it down, and tells the deciders."""
