"""The worker's side: turns assignments into running containers and reports what became of them."""
