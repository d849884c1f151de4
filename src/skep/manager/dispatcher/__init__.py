"""Sessions of nodes: assignments out, statuses in, who is heard from and who is not."""
