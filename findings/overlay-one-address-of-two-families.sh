#!/usr/bin/env bash
# On an overlay network of both families a task gets one address, of a family that is drawn by lot.
#
# Versions: Docker Engine 20.10.24 (Debian 12) and 26.1.5 (Debian 13). 28.5.2 does not make such a network at all (see
#           overlay-ipv6-subnet-never-made).
# Question: an overlay network is made with --ipv6, a subnet of IPv4 and one of IPv6. Which addresses have the tasks
#           and the virtual addresses of the services on it?
# Guess:    one of each family, or of IPv4 only if the swarm does no IPv6.
# Observed: one each, and which subnet it is out of differs from task to task: most are of one of them (seven in eight),
#           which may be either one of the two; `network inspect` lists now this, now that one first. The engine gives
#           the container an address of the other family by itself, unknown to the swarm: most tasks that drew IPv6
#           fail, and some of IPv4 beside them ("Address already in use"). Where the network's load balancer drew IPv6
#           on a node, no task there starts ("It does not belong to any of this network's subnets"). Each restart
#           draws again, so that services come up in part, or after a while.
# To do:    give overlay networks subnets of one family, IPv4.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
cat >"$work/inside" <<'INSIDE'
start_engine
image
docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377 >/dev/null
service() { # NETWORK OPTION ...
    docker service create --detach --quiet --no-resolve-image --network "$1" --name "$1" --restart-condition none "${@:2}" \
        box busybox sleep 600 >/dev/null
}
addresses() { # of a service's tasks, one line each
    docker service ps -q "$1" | xargs docker inspect -f '{{range .NetworksAttachments}}{{.Addresses}}{{end}}'
}
allocated() { [ "$(addresses "$1" | grep -c /)" = 40 ]; }
: >/tmp/all
for number in 1 2 3 4; do # tasks that have no node yet have their addresses already
    docker network create -d overlay --ipv6 --subnet "172.28.$number.0/24" --subnet "fd00:$number::/64" "n$number" >/dev/null
    service "n$number" --replicas 40 --constraint node.labels.nowhere==yes
    within 60 allocated "n$number" || true
    addresses "n$number" >/tmp/these
    saw "network listed as$(docker network inspect -f '{{range .IPAM.Config}} {{.Subnet}}{{end}}' "n$number"): of 40 tasks" \
        "$(grep -c '^\[172' /tmp/these) have IPv4, $(grep -c '^\[fd00' /tmp/these) IPv6; virtual address" \
        "$(docker service inspect -f '{{range .Endpoint.VirtualIPs}}{{.Addr}}{{end}}' "n$number")"
    cat /tmp/these >>/tmp/all
done
same "tasks with one address of IPv4 or IPv6" 160 "$(grep -cE '^\[(172\.28\.[0-9.]+|fd00:[0-9a-f:]+)/[0-9]+\]$' /tmp/all)"
same "there are some of IPv4" yes "$(grep -q '^\[172' /tmp/all && echo yes)"
same "there are some of IPv6" yes "$(grep -q '^\[fd00' /tmp/all && echo yes)"

docker service rm n1 n2 n3 n4 >/dev/null
settled() { ! docker service ps --format '{{.CurrentState}}' "$1" | grep -qvE '^(Running|Failed|Rejected) '; }
for number in $(seq 5 16); do # until the draw falls on IPv6
    docker network create -d overlay --ipv6 --subnet "172.28.$number.0/24" --subnet "fd00:$number::/64" "n$number" >/dev/null
    service "n$number" --replicas 6
    within 60 settled "n$number" || true
    for task in $(docker service ps -q "n$number"); do
        docker inspect -f '{{(index .NetworksAttachments 0).Addresses}} {{.Status.State}} {{.Status.Err}}' "$task"
    done >>/tmp/tasks
    [ "$number" -lt 8 ] || ! grep -qE 'fd00.* (failed|rejected)' /tmp/tasks || break
done
sed -E 's/fd00:[0-9a-f:]+/IPv6/g; s/172[0-9.]+/IPv4/' /tmp/tasks | sort | uniq -c
same "tasks that drew IPv6 and did not start" yes "$(grep -qE 'fd00.* (failed|rejected)' /tmp/tasks && echo yes)"
INSIDE
on_engine 26.1.5 <"$work/inside"
on_engine 20.10.24 <"$work/inside"
