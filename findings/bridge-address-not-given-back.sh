#!/usr/bin/env bash
# A network's bridge that was deleted, or lost its address: containers that cannot start, and ones that do.
#
# Versions: Docker Engine 26.1.5 (Debian 13) and 28.5.2 (Debian testing).
# Question: a bridge network uses a bridge of the user's (`com.docker.network.bridge.name`). Nobody is on it, and the
#           bridge (a) is deleted, (b) is there again, but without the gateway's address. A container is started on it.
# Guess:    the engine makes the bridge and gives it the address again, as it does both at `network create` and when
#           dockerd starts; or the start fails and says what is missing.
# Observed: (a) it fails, for each container until dockerd is started again, and says which bridge. (b) it starts, with
#           exit status 0 and no word of it in dockerd's log; `network inspect` shows the gateway, and the container's default
#           route leads to an address that nobody has. A start of dockerd mends both.
# To do:    before a container is started on such a network, look whether the bridge is there and has the address.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
cat >"$work/inside" <<'INSIDE'
start_engine
image
docker network create --subnet 172.28.1.0/24 --gateway 172.28.1.254 -o com.docker.network.bridge.name=ours net >/dev/null
address() { ip -o -4 addr show dev ours | grep -oE 'inet [0-9./]+' | cut -d' ' -f2; }
status() { "$@" >/tmp/said 2>&1 && echo 0 || echo "not 0"; }
reaches() { docker exec "$1" busybox ping -c 1 -W 1 172.28.1.254 >/dev/null 2>&1 && echo yes || echo no; }
same "made for a new network: its address" 172.28.1.254/24 "$(address)"

ip link del ours
docker create --name gone --network net box busybox sleep 600 >/dev/null
same "(a) the bridge is deleted: docker start" "not 0" "$(status docker start gone)"
saw "$(sed -E 's/veth[0-9a-f]+/veth/' /tmp/said | head -n 1)"

ip link add ours type bridge
ip link set ours up
same "(b) the bridge without address: docker start" 0 "$(status docker start gone)"
same "    the bridge's address" "" "$(address)"
same "    the gateway, as network inspect shows it" 172.28.1.254 "$(docker network inspect -f '{{(index .IPAM.Config 0).Gateway}}' net)"
same "    the container's default route" 172.28.1.254 "$(docker exec gone busybox ip route | grep -oE 'default via [0-9.]+' | cut -d' ' -f3)"
same "    does it reach its gateway?" no "$(reaches gone)"
same "    dockerd's log of the gateway's address" "" "$(grep -F 172.28.1.254 /run/engine/log || true)"

docker rm -f gone >/dev/null
stop_engine
ip link del ours
start_engine
same "dockerd is started again: the bridge's address" 172.28.1.254/24 "$(address)"
INSIDE
on_engine 28.5.2 <"$work/inside"
on_engine 26.1.5 <"$work/inside"
