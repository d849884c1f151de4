"""Writes a swarm's numbers into InfluxDB 1, 2 and 3, and into what takes its writes, without a Telegraf."""
