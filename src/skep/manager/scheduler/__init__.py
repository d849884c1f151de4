"""Which node each task runs on. Pure: arrays over nodes, built once per pass."""
