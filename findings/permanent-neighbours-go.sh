#!/usr/bin/env bash
# PERMANENT neighbours of a bridge or VXLAN device go when its MAC is set to what it is, or a container's port comes.
#
# Versions: iproute2 6.1.0 (Debian 12); it is the kernel that does it, tried with Linux 6.18.
# Question: an agent adds neighbours with `nud permanent` to a bridge and to a VXLAN device. Which of these take them
#           away: setting the MAC to the same value, another MTU, `up` on what is up, a port that joins the bridge?
# Guess:    none. Nothing changes, or nothing that these neighbours are about, and PERMANENT means until deleted.
# Observed: setting the same MAC takes them all away, and so does the first port of a bridge whose MAC nobody has set:
#           the bridge takes a port's MAC (a second port or the end of one can do it again). The forwarding database
#           stays. With a MAC that was set, ports do no harm. Another MTU and `up` do none.
# To do:    set a bridge's MAC when it is made, once; compare before setting it; add neighbours after that, and look at
#           them again when a link of the device changes.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
in_debian bookworm 'iproute2=6.1.0-*' <<'INSIDE'
ip link add vx0 type vxlan id 7 local 192.0.2.1 dstport 4789 nolearning
ip link set vx0 address 02:42:0a:00:00:01 up
ip link add own type bridge                           # takes the MAC of a port
ip link add given address 02:42:0a:00:00:02 type bridge
ip link set own up
ip link set given up
for pair in a b c d; do ip link add "${pair}0" type veth peer name "${pair}1"; done
neighbour() { ip neigh replace 198.51.100.9 lladdr 02:42:c6:33:64:09 nud permanent dev "$1"; }
left() { # DEVICE COMMAND ...: whether the neighbour is there after the command
    neighbour "$1"
    "${@:2}"
    ip neigh show dev "$1" nud permanent | grep -q 198.51.100.9 && echo there || echo gone
}
bridge fdb add 02:42:c6:33:64:09 dev vx0 dst 192.0.2.9
same "VXLAN, another MTU" there "$(left vx0 ip link set vx0 mtu 1400)"
same "VXLAN, the MTU it has" there "$(left vx0 ip link set vx0 mtu 1400)"
same "VXLAN, up again" there "$(left vx0 ip link set vx0 up)"
same "VXLAN, the MAC it has" gone "$(left vx0 ip link set vx0 address 02:42:0a:00:00:01)"
same "    its entry in the forwarding database" there "$(bridge fdb show dev vx0 | grep -q 192.0.2.9 && echo there || echo gone)"
same "bridge, no MAC set: its first port" gone "$(left own ip link set a0 master own)"
same "bridge, MAC set: its first port" there "$(left given ip link set b0 master given)"
same "bridge, MAC set: another port" there "$(left given ip link set c0 master given)"
same "bridge, MAC set: a port goes" there "$(left given ip link del b0)"
same "bridge, MAC set: the MAC it has" gone "$(left given ip link set given address 02:42:0a:00:00:02)"
INSIDE
