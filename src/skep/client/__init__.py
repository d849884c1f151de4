"""What speaks to a daemon's API from outside: our own commands, and later all that shows or feeds the swarm.

Knows the API's paths and JSON only, nothing of what is behind them.
"""
