"""What runs tasks: a Docker Engine (`docker`), or nothing at all (`simulated`)."""
