"""The whole cluster in one process, under virtual time, with seeded faults.

The product's own code runs: candidates, leaders, dispatchers, sessions, workers. Only clock, network,
store and containers are replaced. `python -m skep.sim --seed N` replays a run exactly.
"""
