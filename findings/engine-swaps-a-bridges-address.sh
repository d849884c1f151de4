#!/usr/bin/env bash
# A network is made on a bridge that has another address: the bridge loses its static neighbours and routes.
#
# Versions: Docker Engine 20.10.24 (Debian 12), 26.1.5 (Debian 13) and 28.5.2 (Debian testing).
# Question: a bridge of the user's has an address, a PERMANENT neighbour, a route, and a port that is up. A network is
#           made on it (`com.docker.network.bridge.name`) (a) whose gateway is another address of the same subnet, (b) whose
#           gateway the bridge has already as its second address, (c) as its only one.
# Guess:    (a) the gateway is added, or the creation refused; what else the bridge has stays. (b) and (c) it is taken as it is.
# Observed: (c) is so. In (a) and (b) the creation succeeds, without a word: the engine takes the bridge's first address
#           away (with it goes its second one, unless promote_secondaries is set) and then adds the gateway. For the
#           moment without any address the kernel takes all neighbours and routes of the device, PERMANENT ones too.
# To do:    give the bridge the gateway as its only address before the network is made: add it, set promote_secondaries,
#           and only then take the other one away.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
cat >"$work/inside" <<'INSIDE'
start_engine
ip link add port0 type veth peer name port1
ip link set port1 up
addresses() { ip -o -4 addr show dev ours | grep -oE 'inet [0-9./]+' | cut -d' ' -f2 | xargs; }
bridge() { # ADDRESS ...: a new bridge with these, a neighbour and a route
    docker network rm net >/dev/null 2>&1 || true
    ip link del ours 2>/dev/null || true
    ip link add ours address 02:42:0a:00:00:02 type bridge
    ip link set port0 master ours
    ip link set port0 up
    ip link set ours up
    for each in "$@"; do ip addr add "$each" dev ours; done
    ip neigh replace 172.28.1.9 lladdr 02:42:c6:33:64:09 nud permanent dev ours
    ip route add 198.51.100.0/24 dev ours
}
create() { docker network create --subnet 172.28.1.0/24 --gateway "$1" -o com.docker.network.bridge.name=ours net >/tmp/said 2>&1 && echo 0 || echo "not 0"; }
left() { # WHAT ADDRESSES NEIGHBOURS ROUTES
    same "$1: addresses" "$2" "$(addresses)"
    same "    the neighbour" "$3" "$(ip neigh show dev ours nud permanent | grep -c 172.28.1.9 || true)"
    same "    the route" "$4" "$(ip route show 198.51.100.0/24 dev ours | wc -l)"
}
bridge 172.28.1.2/24
left "before" 172.28.1.2/24 1 1
same "(a) another address: network create" 0 "$(create 172.28.1.254)"
left "    then" 172.28.1.254/24 0 0
bridge 172.28.1.2/24 172.28.1.254/24
same "(b) the gateway as its second address: network create" 0 "$(create 172.28.1.254)"
left "    then" 172.28.1.254/24 0 0
bridge 172.28.1.254/24
same "(c) the gateway as its only address: network create" 0 "$(create 172.28.1.254)"
left "    then" 172.28.1.254/24 1 1
bridge 172.28.1.2/24
echo 1 >/proc/sys/net/ipv4/conf/ours/promote_secondaries
ip addr add 172.28.1.254/24 dev ours
ip addr del 172.28.1.2/24 dev ours
left "what is to be done, before the network" 172.28.1.254/24 1 1
same "    network create" 0 "$(create 172.28.1.254)"
left "    then" 172.28.1.254/24 1 1
INSIDE
on_engine 28.5.2 <"$work/inside"
on_engine 26.1.5 <"$work/inside"
on_engine 20.10.24 <"$work/inside"
