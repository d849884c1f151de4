"""`skep`: simulate a swarm, measure one, set up the quickstart."""
