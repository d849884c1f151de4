#!/usr/bin/env bash
# An overlay network with a subnet of IPv6 is taken and never made.
#
# Version:  Docker Engine 28.5.2 (Debian testing); 26.1.5 (Debian 13) makes it.
# Question: in a swarm, `network create -d overlay --ipv6 --subnet 172.28.8.0/24 --subnet fd00:28::/64` ends with 0 and
#           prints an id. What does `network inspect` show, and what does a service on it do?
# Guess:    both subnets with their gateways, and tasks with an address of each.
# Observed: no driver, no subnet, no options, for good. Not the pair nor its order is the reason: one subnet of IPv6
#           is enough, with or without --ipv6, --gateway or --ip-range. The allocator does not find again the pool it
#           has just asked for, which dockerd's log alone says. A service's tasks stay New without an error in
#           `service ps`; `docker run` on an attachable one gives up with "context deadline exceeded". Two subnets of
#           IPv4 are made, and so is --ipv6 without a subnet (see overlay-ipv6-prefix-per-node).
# To do:    look at the driver of a new overlay network: where it is empty, remove it and give subnets of IPv4 only.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
cat >"$work/inside" <<'INSIDE'
show() { # driver and subnets, sorted: their order is not that of the command
    local subnets
    subnets=$(docker network inspect -f '{{range .IPAM.Config}}{{println .Subnet}}{{end}}' "$1" | sort | xargs)
    echo "$(docker network inspect -f '{{or .Driver "no driver"}}' "$1")${subnets:+ $subnets}"
}
made() { show "$1" | grep -v '^no driver'; }
network() { # NAME OPTION ...: what it is ten seconds after it was made, or as soon as it has a driver
    docker network create -d overlay "$@" >/dev/null
    within 10 made "${!#}" || true
    show "${!#}"
}
start_engine
docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377 >/dev/null
six="no driver"
[ "$makes" = no ] || six="overlay fd00:29::/64"
same "one subnet of IPv6" "$six" "$(network --ipv6 --subnet fd00:29::/64 six)"
same "two of IPv4" "overlay 172.28.6.0/24 172.28.7.0/24" "$(network --subnet 172.28.6.0/24 --subnet 172.28.7.0/24 four)"
both=$(network --ipv6 --subnet 172.28.8.0/24 --subnet fd00:28::/64 both)
if [ "$makes" = yes ]; then
    same "one of each" "overlay 172.28.8.0/24 fd00:28::/64" "$both"
    exit 0
fi
same "one of each" "no driver" "$both"
same "the same, without --ipv6" "no driver" "$(network --subnet 172.28.10.0/24 --subnet fd00:30::/64 noflag)"
same "with gateways" "no driver" "$(network --ipv6 --subnet 172.28.11.0/24 --gateway 172.28.11.1 --subnet fd00:31::/64 --gateway fd00:31::1 gateways)"
same "dockerd's log" "cannot find address pool for poolID:fd00:28::/64/invalid Prefix" \
    "$(grep 'Failed allocation for network' /run/engine/log | grep -o 'cannot find address pool for poolID:fd00:28[^"]*' | head -n 1)"
image
docker service create --detach --quiet --no-resolve-image --name web --network both box busybox sleep 60 >/dev/null
sleep 15
same "a task 15 s later: state, error" "New, " "$(docker service ps --format '{{.CurrentState}}, {{.Error}}' web | sed 's/ .* ago//')"
stop_engine
start_engine
same "the network, dockerd started again" "no driver" "$(sleep 5; show both)"
INSIDE
makes=no on_engine 28.5.2 <"$work/inside"
makes=yes on_engine 26.1.5 <"$work/inside"
