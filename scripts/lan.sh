#!/usr/bin/env bash
# Hosts of our own on this machine: `lan.sh up DIR NAME ...` makes them, `lan.sh down DIR` takes them away.
#
# A host is a network namespace with an address, on a bridge of this machine's, which leads it outside. What is there
# is kept in DIR/lan: `up` makes again what a reboot took away, and nothing else. `lan.sh in DIR NAME COMMAND ...` runs
# a command on a host, `lan.sh address DIR NAME` prints its address, `lan.sh device DIR NAME` its cable's end here.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

usage() { echo "usage: lan.sh up DIR NAME ... | in DIR NAME COMMAND ... | address | device DIR NAME | down DIR" >&2; exit 2; }
[ $# -ge 2 ] || usage
dir=$2
NETS=10.213 # 256 networks of it; a swarm's own come from elsewhere, and Docker's engines take none of these

said() { sed -n "s/^$1 //p" "$dir/lan" 2>/dev/null || true; }
number() { said number; }
bridge() { echo "skep$(number)"; }
subnet() { echo "$NETS.$(number).0/24"; }
names() { said host; }
path() { echo "/run/netns/$(bridge)-$1"; } # of NAME's namespace
device() { echo "$(bridge)-$1"; }
address() { # of NAME: the first is .1, and keeps that
    local place
    place=$(names | grep -nxF -- "$1" | cut -d: -f1) || true
    [ -n "$place" ] || fail "no host $1 is here"
    echo "$NETS.$(number).$place"
}
is_there() { # NAME: whole, not one whose making was interrupted
    [ -e "$(path "$1")" ] && [ -n "$(ip -n "$(bridge)-$1" -4 route show default 2>/dev/null)" ]
}

is_free() { # NUMBER: neither used here, nor by another one that keeps its names with us but not its network
    ! ip link show "skep$1" >/dev/null 2>&1 && ! compgen -G "/run/netns/skep$1-*" >/dev/null &&
        [ -z "$(ip -4 route show root "$NETS.$1.0/24")" ] && ! is_routed "$1"
}

is_routed() { # NUMBER: by more than a route to half of the world, such as a VPN's, before which its own goes
    local to _
    while read -r to _; do
        [ "$to" = default ] || [ "${to##*/}" -lt 16 ] || return 0
    done < <(ip -4 route show match "$NETS.$1.0/24")
    return 1
}

is_ours() { ip link show "$(bridge)" 2>/dev/null | grep -qxF "    alias $dir"; }

is_cut() { # somebody took the bridge away, and its hosts are there
    [ "$(said network)" = "$(this_network)" ] && ! ip link show "$(bridge)" >/dev/null 2>&1
}

choose() { # a number, for as long as DIR is there: who is on the hosts knows their addresses
    local free
    if [ -n "$(number)" ]; then
        is_ours || is_free "$(number)" || is_cut || fail "somebody else has network $(subnet) by now, which $dir had: take that down"
        return
    fi
    free=$(for free in $(seq 0 255); do is_free "$free" && echo "$free" && break; done) || true
    [ -n "$free" ] || fail "no network of $NETS.0.0/16 is free: swarms of ./quickstart, or routes of this machine, have them"
    echo "number $free" >"$dir/lan"
}

up() {
    local name
    exec 9>/run/skep-lan.lock
    flock 9
    choose
    for name in "$@"; do names | grep -qxF -- "$name" || echo "host $name" >>"$dir/lan"; done
    if ! ip link show "$(bridge)" >/dev/null 2>&1; then
        ip link add "$(bridge)" type bridge
        ip addr add "$NETS.$(number).254/24" dev "$(bridge)"
        ip link set "$(bridge)" alias "$dir"
        sed -i '/^network /d' "$dir/lan"
        echo "network $(this_network)" >>"$dir/lan"
    fi
    ip link set "$(bridge)" up
    lead_outside
    for name in $(names); do
        is_there "$name" || make_host "$name"
        ip -br link show up dev "$(device "$name")" | grep -q . || say "putting the cable of $name back"
        ip link set "$(device "$name")" master "$(bridge)" up
    done
    exec 9>&-
}

make_host() {
    local inside
    ip link del "$(device "$1")" 2>/dev/null || true
    ip netns del "$(bridge)-$1" 2>/dev/null || true
    ip netns add "$(bridge)-$1"
    inside=(ip -n "$(bridge)-$1")
    ip link add "$(device "$1")" type veth peer name eth0 netns "$(bridge)-$1"
    ip link set "$(device "$1")" master "$(bridge)" up
    "${inside[@]}" addr add "$(address "$1")/24" dev eth0
    "${inside[@]}" link set lo up
    "${inside[@]}" link set eth0 up
    names_outside "$1"
    "${inside[@]}" route add default via "$NETS.$(number).254"
}

names_outside() { # of NAME: a nameserver of this machine for itself alone is not there; whom it asks is
    local own upstream command
    own=$(nameservers /etc/resolv.conf)
    [ -n "$own" ] && ! grep -qv '^127\.' <<<"$own" || return 0
    upstream=$(nameservers /run/systemd/resolve/resolv.conf | grep -v '^127\.' | head -n 1) || true
    if [ -z "$upstream" ]; then
        say "this machine's nameserver ($own) answers itself alone: $1 knows no names of the world, and pulls no images"
        return 0
    fi
    # shellcheck disable=SC2016  # for the shell inside
    command='
        for each in all eth0; do echo 1 >/proc/sys/net/ipv4/conf/$each/route_localnet; done
        for kind in udp tcp; do
            iptables -w -t nat -A OUTPUT -d 127.0.0.0/8 -p $kind --dport 53 -j DNAT --to-destination "$1"
        done
        iptables -w -t nat -A POSTROUTING -o eth0 -s 127.0.0.0/8 -j MASQUERADE'
    nsenter --net="$(path "$1")" sh -ec "$command" sh "$upstream"
}

nameservers() { sed -n 's/^nameserver[[:space:]]*\([0-9.]*\).*/\1/p' "$1" 2>/dev/null || true; }

rules() { # what leads the hosts outside; also where an engine of this machine drops what it does not know
    echo "-t nat POSTROUTING -s $(subnet) ! -o $(bridge) -j MASQUERADE"
    echo "-t filter FORWARD -i $(bridge) -j ACCEPT"
    echo "-t filter FORWARD -o $(bridge) -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
}

lead_outside() {
    local table chain rule
    echo 1 >/proc/sys/net/ipv4/ip_forward # as any Docker Engine; `down` leaves it, as others may need it by then
    while read -r _ table chain rule; do
        # shellcheck disable=SC2086
        iptables -w -t "$table" -C "$chain" $rule 2>/dev/null || iptables -w -t "$table" -I "$chain" $rule
    done < <(rules)
}

down() {
    local name
    [ -n "$(number)" ] || return 0
    if [ "$(said network)" = "$(this_network)" ] && ip link show "$(bridge)" >/dev/null 2>&1 && ! is_ours; then
        rm -f "$dir/lan" # by now it is somebody else's, as are hosts of that name
        return
    fi
    for name in $(names); do
        [ -e "$(path "$name")" ] || continue
        # The lock of who had its routing mesh, where that one was killed.
        rm -f "/run/skep-mesh/$(stat -Lc %i "$(path "$name")")"
        ip netns del "$(bridge)-$name" 2>/dev/null || true
    done
    if [ "$(said network)" = "$(this_network)" ]; then leave_network; fi # else another's has the name
    rm -f "$dir/lan"
}

leave_network() {
    local name table chain rule
    for name in $(names); do ip link del "$(device "$name")" 2>/dev/null || true; done # one whose processes live on
    ip link del "$(bridge)" 2>/dev/null || true
    while read -r _ table chain rule; do
        # shellcheck disable=SC2086
        iptables -w -t "$table" -D "$chain" $rule 2>/dev/null || true
    done < <(rules)
}

case $1 in
    up) [ $# -ge 3 ] || usage; up "${@:3}" ;;
    in) [ $# -ge 4 ] || usage; exec nsenter --net="$(path "$3")" -- "${@:4}" ;;
    address) [ $# = 3 ] || usage; address "$3" ;;
    device) [ $# = 3 ] || usage; device "$3" ;;
    down) down ;;
    *) usage ;;
esac
