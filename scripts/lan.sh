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

number() { sed -n 's/^number //p' "$dir/lan" 2>/dev/null; }
bridge() { echo "skep$(number)"; }
subnet() { echo "$NETS.$(number).0/24"; }
names() { sed -n 's/^host //p' "$dir/lan" 2>/dev/null; }
path() { echo "/run/netns/$(bridge)-$1"; } # of NAME's namespace
device() { echo "$(bridge)-$1"; }
address() { # of NAME: the first is .1, and keeps that
    local place
    place=$(names | grep -nxF -- "$1" | cut -d: -f1)
    [ -n "$place" ] || fail "no host $1 is here"
    echo "$NETS.$(number).$place"
}
this_network() { stat -Lc %i /proc/self/ns/net; }
is_there() { [ -e "$(path "$1")" ] && nsenter --net="$(path "$1")" true 2>/dev/null; }

is_free() { # NUMBER: neither used here, nor by another one that keeps its names with us but not its network
    ! ip link show "skep$1" >/dev/null 2>&1 && ! compgen -G "/run/netns/skep$1-*" >/dev/null &&
        [ -z "$(ip -4 route show root "$NETS.$1.0/24")" ] &&
        [ -z "$(ip -4 route show match "$NETS.$1.0/24" | grep -v '^default')" ]
}

up() {
    local name free
    if [ -z "$(number)" ]; then
        free=$(for free in $(seq 0 255); do is_free "$free" && echo "$free" && break; done)
        [ -n "$free" ] || fail "no network of $NETS.0.0/16 is free: take the swarms down that have them"
        { echo "number $free"; echo "network $(this_network)"; } >"$dir/lan"
    fi
    for name in "$@"; do names | grep -qxF -- "$name" || echo "host $name" >>"$dir/lan"; done
    if ! ip link show "$(bridge)" >/dev/null 2>&1; then
        ip link add "$(bridge)" type bridge
        ip addr add "$NETS.$(number).254/24" dev "$(bridge)"
    fi
    ip link set "$(bridge)" up
    lead_outside
    for name in $(names); do make_host "$name"; done
}

make_host() {
    local inside
    is_there "$1" && return
    ip netns del "$(bridge)-$1" 2>/dev/null || true
    ip netns add "$(bridge)-$1"
    inside=(ip -n "$(bridge)-$1")
    ip link add "$(device "$1")" type veth peer name eth0 netns "$(bridge)-$1"
    ip link set "$(device "$1")" master "$(bridge)" up
    "${inside[@]}" addr add "$(address "$1")/24" dev eth0
    "${inside[@]}" link set lo up
    "${inside[@]}" link set eth0 up
    "${inside[@]}" route add default via "$NETS.$(number).254"
}

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
    for name in $(names); do
        is_there "$name" || continue
        # The lock of who had its routing mesh, where that one was killed.
        rm -f "/run/skep-mesh/$(stat -Lc %i "$(path "$name")")"
        ip netns del "$(bridge)-$name" 2>/dev/null || true
    done
    if [ "$(sed -n 's/^network //p' "$dir/lan")" = "$(this_network)" ]; then leave_network; fi # else another's has the name
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
