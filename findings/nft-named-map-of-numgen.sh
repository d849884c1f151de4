#!/usr/bin/env bash
# A named map typed by numgen has its keys in the wrong byte order: connections miss it.
#
# Version:  nftables 1.1.7 (Debian testing); not 1.1.3 (Debian 13), not 1.0.6 (Debian 12).
# Question: `dnat to numgen inc mod 3 map @backends` shares connections out among the three elements of a named map
#           that is declared `typeof numgen inc mod 3 : ip daddr` with the keys 0, 1 and 2. How many reach each?
# Guess:    every third one, as with the anonymous map `map { 0 : …, 1 : …, 2 : … }` in the rule.
# Observed: with 1.1.7 every third one reaches the element 0, the others find no element and are not translated, and
#           nothing is said. `nft list map` shows the keys 0, 16777216 and 33554432: stored in one byte order, looked
#           up in the other. The key 0 hides it from who tries with one backend.
# To do:    an anonymous map in the rule, or a named one by mark: `meta mark set numgen …`, `dnat to meta mark map @…`.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
cat >"$work/inside" <<'INSIDE'
nft -f - <<'NFT'
table ip t {
    map typed { typeof numgen inc mod 3 : ip daddr; elements = { 0 : 10.7.1.10, 1 : 10.7.1.11, 2 : 10.7.1.12 }; }
    map marks { typeof meta mark : ip daddr; elements = { 0 : 10.7.3.10, 1 : 10.7.3.11, 2 : 10.7.3.12 }; }
    chain out {
        type nat hook output priority -100;
        ip daddr 10.9.0.1 dnat to numgen inc mod 3 map @typed
        ip daddr 10.9.0.2 dnat to numgen inc mod 3 map { 0 : 10.7.2.10, 1 : 10.7.2.11, 2 : 10.7.2.12 }
        ip daddr 10.9.0.3 meta mark set numgen inc mod 3 dnat to meta mark map @marks
    }
}
NFT
# A UDP packet from a port of its own is a connection of its own; where it arrived is what received it.
for address in 10.9.0.1 10.9.0.2 10.9.0.3 10.7.{1,2,3}.{10,11,12}; do ip addr add $address/32 dev lo; done
count() { # VIP ADDRESS ...: of 30 connections to VIP, how many reach each ADDRESS, and VIP itself
    python3 - "$@" <<'PYTHON'
import socket, sys
addresses = sys.argv[2:] + sys.argv[1:2]
receivers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in addresses]
for receiver, address in zip(receivers, addresses):
    receiver.bind((address, 9000))
    receiver.setblocking(False)
seen = [0] * len(addresses)
for _ in range(30):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (sys.argv[1], 9000))
for number, receiver in enumerate(receivers):
    try:
        while receiver.recv(1):
            seen[number] += 1
    except BlockingIOError:
        pass
print(*seen)
PYTHON
}
keys() { nft list map ip t "$1" | grep -oE '[0-9]+ : [0-9]' | cut -d' ' -f1 | xargs; }
same "anonymous map: reach 1st, 2nd, 3rd, none" "10 10 10 0" "$(count 10.9.0.2 10.7.2.10 10.7.2.11 10.7.2.12)"
same "named map of marks" "10 10 10 0" "$(count 10.9.0.3 10.7.3.10 10.7.3.11 10.7.3.12)"
same "named map of numgen" "$numgen" "$(count 10.9.0.1 10.7.1.10 10.7.1.11 10.7.1.12)"
same "its keys, given as 0 1 2, are listed as" "$keys" "$(keys typed)"
INSIDE
try() { # RELEASE VERSION
    echo "nftables $2"
    in_debian "$1" "nftables=$2-*" python3-minimal libpython3-stdlib <"$work/inside"
}
numgen="10 0 0 20" keys="0 16777216 33554432" try testing 1.1.7
numgen="10 10 10 0" keys="0 1 2" try trixie 1.1.3
numgen="10 10 10 0" keys="0 1 2" try bookworm 1.0.6
