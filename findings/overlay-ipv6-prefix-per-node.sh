#!/usr/bin/env bash
# An overlay network with --ipv6 and no subnet has another IPv6 prefix on each node.
#
# Version:  Docker Engine 28.5.2 (Debian testing). 26.1.5 (Debian 13) makes the network, too, and rejects its tasks.
# Question: two nodes are one swarm; `network create -d overlay --ipv6 net` gives no subnet. Which IPv6 addresses do
#           the tasks on both nodes have, and do they reach each other?
# Guess:    the manager picks one /64 for the network, as it picks the subnet of IPv4, or there is no IPv6.
# Observed: the swarm knows no prefix (its `network inspect` lists IPv4 alone until a task of the node is there), each
#           engine makes one up: two tasks of one network have addresses of two /64s, and reach each other over IPv4
#           only. From then on `network inspect` has a subnet of IPv6, on each node another one. A task's object says
#           nothing of these addresses, the container's does.
# To do:    leave --ipv6 away: a subnet of IPv6 does not help (see overlay-ipv6-subnet-never-made).
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
cat >"$work/inside" <<'INSIDE'
# Two network namespaces with a cable between them; an engine in each.
node() { # NUMBER COMMAND ...
    DOCKER_HOST=unix:///run/$1/sock "${@:2}"
}
ip link add to1 type veth peer name to2
for number in 1 2; do
    ip netns add "node$number"
    ip link set "to$number" netns "node$number"
    ip -n "node$number" link set lo up
    ip -n "node$number" addr add "192.168.77.$number/24" dev "to$number"
    ip -n "node$number" link set "to$number" up
    mkdir -p "/run/$number"
    nsenter "--net=/run/netns/node$number" dockerd -H "unix:///run/$number/sock" --data-root "/var/lib/docker$number" \
        --exec-root "/run/$number/exec" --pidfile "/run/$number/pid" >"/run/$number/log" 2>&1 </dev/null &
done
for number in 1 2; do
    within 60 node $number docker version || { tail -n 5 /run/$number/log >&2; cannot "an engine does not answer"; }
    node $number image
done
node 1 docker swarm init --advertise-addr 192.168.77.1 >/dev/null
node 2 docker swarm join --token "$(node 1 docker swarm join-token -q worker)" 192.168.77.1:2377 >/dev/null
node 1 docker network create -d overlay --ipv6 net >/dev/null
subnets() { node "$1" docker network inspect -f '{{range .IPAM.Config}}{{println .Subnet}}{{end}}' net | xargs; }
same "the network's subnets on the manager, no task yet" 10.0.1.0/24 "$(sleep 3; subnets 1)"
node 1 docker service create --detach --quiet --no-resolve-image --name web --network net --mode global box busybox sleep 600 >/dev/null
both() { [ -n "$(node 1 docker ps -q)" ] && [ -n "$(node 2 docker ps -q)" ]; }
within 60 both || { node 1 docker service ps --no-trunc web; cannot "the tasks do not start"; }
sleep 3
for number in 1 2; do saw "the network's subnets on node $number, with tasks: $(subnets $number)"; done

address() { node "$1" docker inspect -f "{{.NetworkSettings.Networks.net.$2}}" "$(node "$1" docker ps -q)"; }
for number in 1 2; do
    saw "container on node $number: $(address $number IPAddress) $(address $number GlobalIPv6Address)/$(address $number GlobalIPv6PrefixLen)"
done
saw "their tasks' addresses, as the swarm knows them:" $(node 1 docker service ps -q web | xargs docker -H unix:///run/1/sock inspect -f '{{range .NetworksAttachments}}{{.Addresses}}{{end}}' | sort)
prefix() { address "$1" GlobalIPv6Address | cut -d: -f1-3; }
same "both have the same prefix of IPv6" no "$([ "$(prefix 1)" = "$(prefix 2)" ] && echo yes || echo no)"
ping_from() { node 1 docker exec "$(node 1 docker ps -q)" busybox ping -c 2 -W 2 "$1" 2>&1 | grep -oE 'unreachable|[0-9]+% packet loss' | head -n 1; }
same "ping over IPv4" "0% packet loss" "$(ping_from "$(address 2 IPAddress)")"
same "ping over IPv6" "unreachable" "$(ping_from "$(address 2 GlobalIPv6Address)")"
INSIDE
on_engine 28.5.2 <"$work/inside"
on_engine 26.1.5 <<'INSIDE'
start_engine
image
docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377 >/dev/null
docker network create -d overlay --ipv6 net >/dev/null
docker service create --detach --quiet --no-resolve-image --name web --network net --restart-condition none box busybox sleep 600 >/dev/null
error() { docker service ps --no-trunc --format '{{.Error}}' web; }
failed() { error | grep -q .; }
within 30 failed || true
same "the task's error" '"could not find an available, non-overlapping IPv6 address pool among the defaults to assign to the network"' "$(error)"
INSIDE
