"""What the world gives us: clock, ids, randomness, logs, settings, errors. Imports nothing of skep's."""
