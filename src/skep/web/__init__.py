"""The dashboard: a web page of a swarm, served to whoever started it. Asks by the API only."""
