"""skepd: puts the parts together on one host."""
