#!/bin/sh
# The network that local machines share: `network.sh up` makes it, or what is missing of it; `network.sh down` takes it
# away. By the environment come LAN (the file that the bridge's network namespace is known by), UPLINK (this host's end
# of the cable), GATEWAY/PREFIX (this host's address on it), SUBNET, and TAG, a comment that our rules are known by.
#
# The bridge is in a namespace of its own: what machines send one another passes no rule of this host's.
set -eu
export LC_ALL=C PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin

rules() { # $1: what is done to each
    "$1" nat POSTROUTING -s "$SUBNET" ! -d "$SUBNET" -j MASQUERADE
    "$1" filter FORWARD -i "$UPLINK" -j ACCEPT
    "$1" filter FORWARD -o "$UPLINK" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
}

insert() {
    table=$1 chain=$2
    shift 2
    # First: Docker's policy for what is forwarded is to drop it.
    iptables -w -t "$table" -C "$chain" "$@" -m comment --comment "$TAG" 2>/dev/null ||
        iptables -w -t "$table" -I "$chain" "$@" -m comment --comment "$TAG"
}

delete() {
    table=$1 chain=$2
    shift 2
    while iptables -w -t "$table" -D "$chain" "$@" -m comment --comment "$TAG" 2>/dev/null; do :; done
}

raise_limits() { # of all that root runs; a machine's init, engine and so on have seven inotify instances, and more
    # 128 is what a kernel lets each user have: the inits of some 17 machines, and the next one does not start.
    limit=/proc/sys/fs/inotify/max_user_instances
    [ "$(cat $limit 2>/dev/null || echo 8192)" -ge 8192 ] || echo 8192 >$limit || true
}

up() {
    raise_limits
    if [ "$(stat -f -c %T "$LAN" 2>/dev/null)" != nsfs ]; then # after a boot it is a file, or nothing
        rm -f "$LAN"
        : >"$LAN"
        unshare --net="$LAN" true
    fi
    in="nsenter --net=$LAN ip link"
    $in set lo up
    [ -n "$($in show br0 2>/dev/null)" ] || $in add br0 type bridge
    $in set br0 up
    if ! ip link show "$UPLINK" >/dev/null 2>&1; then
        $in del uplink 2>/dev/null || true # its other end is in another namespace
        $in add uplink type veth peer name "$UPLINK" netns $$
    fi
    $in set uplink master br0 up
    ip addr replace "$GATEWAY/$PREFIX" dev "$UPLINK"
    ip link set "$UPLINK" up
    echo 1 >/proc/sys/net/ipv4/ip_forward
    rules insert
}

down() {
    rules delete
    ip link del "$UPLINK" 2>/dev/null || true
    umount "$LAN" 2>/dev/null || true
    rm -f "$LAN"
}

case $1 in
    up | down) "$1" ;;
    *) exit 2 ;;
esac
