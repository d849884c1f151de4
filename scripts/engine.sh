#!/usr/bin/env bash
# A Docker Engine of our own: `engine.sh start DIR BRIDGE [--own-network] [--root ROOT] [--podman]` and
# `engine.sh stop DIR`. Its socket is DIR/docker.sock.
#
# Data, run files, pid, log and socket are all under DIR, the bridge has a name of its own: it does not touch
# an engine that runs already. With --own-network it has a network namespace to itself, without a way out: its
# networks and ports clash with nobody's. The namespace is DIR/net: an engine that was killed and is started again
# finds itself in it; `stop` removes it. DIR must be short: a unix socket's path has 107 bytes at most.
#
# With --root it is the engine of another root (scripts/engine_root.sh), which it has read-only, in a mount namespace of
# its own, with this machine's processes, /run, /tmp and /var/tmp, below one of which DIR must be. What is mounted in
# those after its start it does not see where mounts are private. With --podman it is Podman's service for Docker's
# clients.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

usage() { echo "usage: engine.sh start DIR BRIDGE [--own-network] [--root ROOT] [--podman] | stop DIR" >&2; exit 2; }
[ $# -ge 2 ] || usage
dir=$2

# The pid may be another's by now, or one of another root's.
running() { [ -s "$dir/pid" ] && grep -qsaF -- "$dir/" "/proc/$(cat "$dir/pid")/cmdline"; }

start() {
    local bridge=$1 number=$((RANDOM % 200 + 20)) inside=() own=no root='' kind=docker
    shift
    while [ $# -gt 0 ]; do
        case $1 in
            --own-network) own=yes ;;
            --root) [ -d "${2:-}" ] || usage; root=$2; shift ;;
            --podman) kind=podman ;;
            *) usage ;;
        esac
        shift
    done
    mkdir -p "$dir/exec"
    if running; then return; fi
    [ -z "$root" ] || echo "$root" >"$dir/root"
    forget_killed
    if [ $own = yes ]; then
        inside=(unshare --net --)
        if mountpoint -q "$dir/net"; then inside=(nsenter "--net=$dir/net" --); fi
        inside+=("$0" inside "$dir" "$bridge" "10.231.$number.1/24")
    else
        make_bridge "$bridge" "10.231.$number.1/24"
        echo "$bridge 10.231.$number.0/24" >"$dir/bridge"
        this_network >"$dir/network"
        nft list tables 2>/dev/null >"$dir/tables" || true
        ip link show docker_gwbridge >/dev/null 2>&1 && touch "$dir/gwbridge"
    fi
    [ -z "$root" ] || inside+=(unshare --mount --propagation slave -- "$0" root "$dir" "$root")
    # Through its own session, so that a Ctrl-C of the caller does not end it before the caller cleans up. An engine that
    # was held up asks its containerd for its stacks, which containerd writes into TMPDIR.
    local engine=()
    "${kind}_engine" "$bridge"
    TMPDIR=$dir/exec setsid "${inside[@]}" "${engine[@]}" >"$dir/log" 2>&1 </dev/null &
    local child=$!
    [ $kind = docker ] || echo $child >"$dir/pid"
    for _ in $(seq 300); do
        if docker -H "unix://$dir/docker.sock" version >/dev/null 2>&1; then return; fi
        if ! kill -0 "$child" 2>/dev/null; then
            echo "engine.sh: the engine ended; its log says:" >&2
            tail -n 15 "$dir/log" >&2
            return 1
        fi
        sleep 0.1
    done
    echo "engine.sh: the engine did not answer within 30 s; its log says:" >&2
    tail -n 15 "$dir/log" >&2
    return 1
}

docker_engine() { # BRIDGE: sets `engine`
    engine=(dockerd --host "unix://$dir/docker.sock" --data-root "$dir/data" --exec-root "$dir/exec"
        --pidfile "$dir/pid" --bridge "$1" --iptables=true --ip-masq=true --log-level warn
        --containerd-namespace skep --containerd-plugins-namespace skep-plugins)
}

podman_engine() { # its own network has a bridge of its own name
    engine=(podman --root "$dir/data" --runroot "$dir/exec/run" --tmpdir "$dir/exec/tmp" --volumepath "$dir/volumes"
        --network-config-dir "$dir/networks" --cgroup-manager cgroupfs --events-backend file
        system service --time 0 "unix://$dir/docker.sock")
}

forget_killed() { # what an engine that was killed has left keeps a new one from starting: numbers of processes, a containerd
    local pid
    for pid in $(pids_below "$dir/exec" "$(cat "$dir/root" 2>/dev/null)"); do
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != containerd ] || kill -9 "$pid" 2>/dev/null || true # its shims live on
    done
    rm -f "$dir/pid" "$dir/exec/containerd/containerd.pid"
}

make_bridge() {
    ip link show "$1" >/dev/null 2>&1 || ip link add "$1" type bridge
    ip addr show "$1" | grep -q 'inet ' || ip addr add "$2" dev "$1"
    ip link set "$1" up
}

# inside BRIDGE ADDRESS COMMAND …: in a network namespace, keeps it, makes what the engine wants to find, and is it.
inside() {
    if ! mountpoint -q "$dir/net"; then
        touch "$dir/net"
        mount --bind /proc/self/ns/net "$dir/net"
    fi
    ip link set lo up
    make_bridge "$1" "$2"
    exec "${@:3}"
}

# root ROOT COMMAND …: in a mount namespace, has ROOT for its root, and is the command.
root() {
    local part
    exec 9<"$1"
    flock --shared 9 # the engine's, for as long as it runs: scripts/engine_root.sh
    mount --bind "$1" "$1" # pivot_root wants a mount
    mount -o remount,bind,ro "$1"
    for part in dev proc sys run tmp var/tmp; do mount --rbind "/$part" "$1/$part"; done
    for part in opt etc/docker etc/cni; do [ ! -d "$1/$part" ] || mount -t tmpfs -o mode=755 "$part" "$1/$part"; done
    # Where some controllers are of the new kind and some of the old, crun starts nothing.
    [ "$2" != podman ] || umount "$1/sys/fs/cgroup/unified" 2>/dev/null || true
    mount --bind /etc/resolv.conf "$1/etc/resolv.conf"
    cd "$1"
    busybox pivot_root . . # not every release has it from util-linux
    umount -l .
    exec chroot . "${@:2}"
}

stop() {
    if running; then
        local pid
        pid=$(cat "$dir/pid")
        kill -CONT "$pid" 2>/dev/null || true # a test that was killed may have left it frozen
        docker -H "unix://$dir/docker.sock" ps -aq 2>/dev/null | xargs -r docker -H "unix://$dir/docker.sock" rm -f >/dev/null 2>&1 || true
        docker -H "unix://$dir/docker.sock" network ls -q --filter type=custom 2>/dev/null |
            xargs -r docker -H "unix://$dir/docker.sock" network rm >/dev/null 2>&1 || true
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 150); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -9 "$pid" 2>/dev/null || true
    fi
    # What a killed engine leaves: its containerd, shims and their containers, mounts, the bridge.
    for pid in $(pids_below "$dir/exec" "$(cat "$dir/root" 2>/dev/null)"); do
        pkill -9 -P "$pid" 2>/dev/null || true # a shim's container
        kill -9 "$pid" 2>/dev/null || true
    done
    unmount_below "$dir"
    # A network that it was in, and that is gone, took all that with it; in another one it is somebody else's.
    if [ -s "$dir/bridge" ] && [ "$(cat "$dir/network" 2>/dev/null)" = "$(this_network)" ]; then
        local bridge subnet
        read -r bridge subnet <"$dir/bridge"
        ip link del "$bridge" 2>/dev/null || true
        forget_rules "$bridge" "$subnet"
        # Docker makes this bridge when its own swarm is tried in this engine.
        if [ ! -e "$dir/gwbridge" ] && ip link del docker_gwbridge 2>/dev/null; then
            forget_rules docker_gwbridge 172.18.0.0/16
        fi
        drop_tables
    fi
    rm -rf "$dir"
}

# forget_rules BRIDGE SUBNET: the chains are shared with any other engine, and stay while one runs.
forget_rules() {
    local table
    for table in filter nat; do
        delete_rules "$table" "( $1 | $1\$| $2 )"
        pgrep -x dockerd >/dev/null || delete_rules "$table" '-j DOCKER|^-A DOCKER'
        pgrep -x dockerd >/dev/null || delete_chains "$table"
    done
    # Docker's engine sets this policy and never takes it back.
    pgrep -x dockerd >/dev/null || iptables -P FORWARD ACCEPT 2>/dev/null || true
}

# Tables that were not there before the engine, and hold no rule any more.
drop_tables() {
    local table
    command -v nft >/dev/null && [ -f "$dir/tables" ] || return 0
    for table in filter nat; do
        grep -qx "table ip $table" "$dir/tables" && continue
        iptables -t $table -S 2>/dev/null | grep -qE '^-(A|N)' || nft delete table ip $table 2>/dev/null || true
    done
}

delete_rules() {
    local rules
    rules=$(iptables -t "$1" -S 2>/dev/null | grep -E -- "$2" | sed -n 's/^-A/-D/p' || true)
    while read -r rule; do
        # shellcheck disable=SC2086
        [ -z "$rule" ] || iptables -t "$1" $rule 2>/dev/null || true
    done <<<"$rules"
}

delete_chains() {
    local chain
    for chain in $(iptables -t "$1" -S 2>/dev/null | sed -n 's/^-N \(DOCKER[^ ]*\)$/\1/p'); do
        iptables -t "$1" -F "$chain" 2>/dev/null || true
        iptables -t "$1" -X "$chain" 2>/dev/null || true
    done
}

case $1 in
    start) [ $# -ge 3 ] || usage; start "${@:3}" ;;
    inside) inside "${@:3}" ;;
    root) root "${@:3}" ;;
    stop) stop ;;
    *) usage ;;
esac
