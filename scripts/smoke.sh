#!/usr/bin/env bash
# What the README says to type, on the swarm that ./quickstart left: `smoke.sh`. Ends with ./quickstart down, and
# says what that left. The first thing that is not as it should be ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

DOCKER_HOST=$(./quickstart status | sed -n 's/^export DOCKER_HOST=//p')
export DOCKER_HOST
home=${DOCKER_HOST#unix://}
home=${home%/*}
WAIT_S=40 # a leader is replaced in four seconds, on a machine that does other things besides

expect() { # expect WHAT WANTED COMMAND ...: until it prints that
    local wanted=$2 printed=
    for _ in $(seq $((WAIT_S * 2))); do
        printed=$("${@:3}" 2>&1) || true
        [ "$printed" != "$wanted" ] || { say "$1"; return; }
        sleep 0.5
    done
    fail "$1: after $WAIT_S s, '${*:3}' still prints: $printed"
}
ready() { docker node ls --format '{{.Status}}' | sort | uniq -c | tr -s ' ' | paste -sd,; }
replicas() { docker service ls --format '{{.Name}} {{.Replicas}}' | sort | paste -sd,; }

[ -n "$DOCKER_HOST" ] || fail "no quickstart swarm is here: run ./quickstart"
expect "five nodes are ready" " 5 Ready" ready
expect "three replicas run" "hello 3/3" replicas
answers() { for n in 1 2 3; do curl -s -m 5 "http://$1:8080"; done | sed 's/ on .*//' | sort | paste -sd,; }
for name in mg1 w1; do
    address=$(scripts/lan.sh address "$home" $name)
    expect "$name leads to all three" "hello from task 1,hello from task 2,hello from task 3" answers "$address"
done
docker service scale -d hello=5 >/dev/null
expect "five replicas run" "hello 5/5" replicas
docker service create -d --name big --replicas 2 --reserve-memory 1000g --no-resolve-image skep-quickstart sleep 1d >/dev/null
pending() { docker service ps --no-trunc --format '{{.Error}}' big | sort -u; }
expect "a pending task says why" '"no suitable node (insufficient resources on 5 nodes)"' pending
docker service rm big >/dev/null

printf 'one secret' | docker secret create one - >/dev/null
cat >"$home/stack.yml" <<END
version: "3.8"
services:
  web:
    image: skep-quickstart
    command: sh -c 'cat /run/secrets/one; echo; exec sleep 1d'
    stop_grace_period: 1s
    deploy: {replicas: 2}
    secrets: [one]
secrets:
  one: {external: true}
END
docker stack deploy -c "$home/stack.yml" --resolve-image never st >/dev/null
expect "a stack runs" "hello 5/5,st_web 2/2" replicas
logs() { docker service logs --raw st_web 2>&1 | sort -u; }
expect "its tasks have the secret" "one secret" logs
docker stack rm st >/dev/null
expect "the stack is gone" "hello 5/5" replicas
docker secret rm one >/dev/null

docker run --rm skep-quickstart echo a container >/dev/null || fail "docker run does not work"
kill -9 "$(cat "$home/mg0.pid")"
DOCKER_HOST=unix://$home/mg1.sock
leaders() { docker node ls --format '{{.ManagerStatus}}' | grep -c Leader; }
expect "another manager leads" 1 leaders
expect "all replicas are counted" "hello 5/5" replicas
./quickstart >/dev/null
expect "the killed manager is back" " 5 Ready" ready

cut=$(scripts/lan.sh device "$home" w1)
on_w1() { docker service ps -f desired-state=running --format '{{.Node}}' hello | grep -c w1; }
ip link set "$cut" down
expect "a host that is cut off has no task any more" 0 on_w1
expect "all replicas run elsewhere" "hello 5/5" replicas
ip link set "$cut" up
expect "it is back" " 5 Ready" ready

bridge=${cut%-w1}
./quickstart down >&2
! ip link show "$bridge" >/dev/null 2>&1 || fail "./quickstart down left the bridge $bridge"
! iptables-save 2>/dev/null | grep -w "$bridge" >&2 || fail "./quickstart down left rules (see above)"
[ ! -e "$home" ] || fail "./quickstart down left $home"
left=$(pids_below "$home")
[ -z "$left" ] || fail "./quickstart down left processes: $(ps -o pid=,args= -p "$(paste -sd, <<<"$left")")"
left=$(ip netns list | grep "^$bridge-" || true)
[ -z "$left" ] || fail "./quickstart down left namespaces: $left"
left=$(grep -F "$home" /proc/self/mounts || true)
[ -z "$left" ] || fail "./quickstart down left mounts: $left"
say "what the README says works, and nothing is left"
