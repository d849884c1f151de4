"""What the swarm gives out of its own: subnets, virtual addresses, published ports, tasks' addresses."""
