#!/usr/bin/env bash
# A packet's mark goes through a VXLAN tunnel, in and out, unless the device lives in another namespace than its socket.
#
# Versions: nftables 1.0.6, iproute2 6.1.0 (Debian 12); it is the kernel's doing, tried with Linux 6.18.
# Question: a rule marks what comes in for the tunnel's UDP port. What mark has the packet that was in it, where the
#           VXLAN device is in the same network namespace, where it is a bridge's port there, and where it was moved to
#           another namespace, as engines do with their overlay networks? And on the way out: does the tunnel's own
#           packet have the mark of what it carries?
# Guess:    none in all four: a packet that comes out of a tunnel is a new one, and so is one that goes into it. A mark
#           is for the layer that set it.
# Observed: it comes through to what was inside, also behind the bridge, and goes along on the way out. Only between
#           namespaces it is wiped.
# To do:    with policy routing by marks (VPNs, several uplinks, kube-proxy's and skep's own bits) expect the tunnel's
#           packets in the table that was meant for what they carry: clear the mark behind postrouting's last use of
#           it. The other way round it is of use: what came by a tunnel can be told from what is only said to have.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
in_debian bookworm 'nftables=1.0.6-*' 'iproute2=6.1.0-*' 'iputils-ping=3:20221126-*' <<'INSIDE'
ip netns add other
ip netns add moved
ip link add under type veth peer name under netns other
ip addr add 192.0.2.1/24 dev under
ip link set under up
ip -n other addr add 192.0.2.2/24 dev under
ip -n other link set under up
ip -n other link add vx0 type vxlan id 7 local 192.0.2.2 remote 192.0.2.1 dstport 4789
ip -n other addr add 198.51.100.2/24 dev vx0
ip -n other link set vx0 up

counting() { # marks what is for the tunnel, and counts what has that mark inside
    nft -f - <<'RULES'
table ip t {
    chain outer { type filter hook prerouting priority -300; udp dport 4789 meta mark set 0x77; }
    chain inner { type filter hook prerouting priority -200; icmp type echo-request meta mark 0x77 counter; }
}
RULES
}
inside='table ip t { chain inner { type filter hook prerouting priority -200; icmp type echo-request meta mark 0x77 counter; }; }'
marked() { # [ip netns exec NAME]: of three echo requests through the tunnel
    ip -n other neigh flush all # the device is another one each time
    ip netns exec other ping -q -c 3 -i 0.2 -W 2 198.51.100.1 >/dev/null || { echo "no answer"; return; }
    "$@" nft list chain ip t inner | sed -n 's/.*packets \([0-9]*\).*/\1 of 3/p'
}
tunnel() { ip link add vx0 type vxlan id 7 local 192.0.2.1 remote 192.0.2.2 dstport 4789; }

nft --version
tunnel
ip addr add 198.51.100.1/24 dev vx0
ip link set vx0 up
counting
same "marked inside: device in the same namespace" "3 of 3" "$(marked)"
nft delete table ip t

ip link add br0 type bridge
ip addr del 198.51.100.1/24 dev vx0
ip link set vx0 master br0
ip addr add 198.51.100.1/24 dev br0
ip link set br0 up
counting
same "device is a bridge's port" "3 of 3" "$(marked)"
nft delete table ip t

ip link del vx0
ip link del br0
tunnel
ip link set vx0 netns moved
ip -n moved addr add 198.51.100.1/24 dev vx0
ip -n moved link set vx0 up
counting
ip netns exec moved nft "$inside"
same "device was moved to another namespace" "0 of 3" "$(marked ip netns exec moved)"
nft delete table ip t
ip -n moved link del vx0

tunnel
ip addr add 198.51.100.1/24 dev vx0
ip link set vx0 up
nft -f - <<'RULES'
table ip t {
    chain begin { type filter hook output priority 0; icmp type echo-request meta mark set 0x77; }
    chain inner { type filter hook postrouting priority 0; udp dport 4789 meta mark 0x77 counter; }
}
RULES
ping -q -c 3 -i 0.2 -W 2 198.51.100.2 >/dev/null
same "on the way out: the tunnel's packets with its mark" "3 of 3" "$(nft list chain ip t inner | sed -n 's/.*packets \([0-9]*\).*/\1 of 3/p')"
INSIDE
