"""`skep top`: what nodes, services and tasks take, as it changes."""
