#!/usr/bin/env bash
# The address pool of a swarm that was left is the next swarm's, too.
#
# Versions: Docker Engine 26.1.5 (Debian 13); not 20.10.24 (Debian 12), not 28.5.2 (Debian testing).
# Question: a node makes a swarm with --default-addr-pool, leaves it with --force and makes a new one without the
#           option. Where do the subnets of the new swarm's networks come from?
# Guess:    Docker's default, 10.0.0.0/8 in /24s: `leave --force` throws the swarm's state away, and what the new swarm
#           says of itself knows no other pool.
# Observed: with 26.1.5 from the pool of the swarm that is gone, in its subnet size, though `docker info` has no pool
#           and the size 24. Starting dockerd again ends it, in the middle of that swarm: its next network is of
#           10.0.0.0/8, its earlier ones stay where they are.
# To do:    give --default-addr-pool with every `swarm init`, or start dockerd again between leaving and init.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
cat >"$work/inside" <<'INSIDE'
swarm() { docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377 "$@" >/dev/null; }
subnets() { docker network inspect -f '{{range .IPAM.Config}}{{.Subnet}}{{end}}' "$1" | grep .; }
network() { # NAME: its subnet, as soon as it has one
    docker network create -d overlay "$1" >/dev/null
    within 30 subnets "$1" || true
    subnets "$1" || true
}
start_engine
swarm --default-addr-pool 172.30.0.0/16 --default-addr-pool-mask-length 26
same "first swarm, pool 172.30.0.0/16 in /26s" 172.30.0.64/26 "$(network one)"
docker swarm leave --force >/dev/null
swarm
same "second swarm, no pool asked for" "$second" "$(network two)"
same "its subnet size in 'docker info'" 24 "$(docker info -f '{{.Swarm.Cluster.SubnetSize}}')"
same "its pools in 'docker info'" "$pools" "$(docker info -f '{{.Swarm.Cluster.DefaultAddrPool}}')"
stop_engine
start_engine
same "second swarm, dockerd started again" "$again" "$(network three)"
INSIDE
second=172.30.0.64/26 pools='[]' again=10.0.0.0/24 on_engine 26.1.5 <"$work/inside"
second=10.0.1.0/24 pools='[10.0.0.0/8]' again=10.0.2.0/24 on_engine 20.10.24 <"$work/inside"
second=10.0.1.0/24 pools='[]' again=10.0.2.0/24 on_engine 28.5.2 <"$work/inside"
