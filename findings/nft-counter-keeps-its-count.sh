#!/usr/bin/env bash
# A saved listing that is loaded again sets no counter that is there, and says nothing of it.
#
# Version:  nftables 1.0.6 (Debian 12), 1.1.3 (Debian 13), 1.1.7 (Debian testing); Linux 6.18.
# Question: `nft list ruleset` writes named counters with their counts. A counter has 3 when it is saved and 5 when the
#           file is loaded again, alone or after a line that empties the table. How much has it then? And what does
#           `add counter ip t c { packets 100 bytes 1000 }` do to it?
# Guess:    3: what is loaded is what was saved, and emptied is emptied. The `add` sets it to 100, or says "File exists" as
#           `create` does.
# Observed: 5 with the file alone (whose rules are there twice), and 5 with `flush table ip t` before it, which takes the
#           rules and no counter; 3 with `delete table` or `flush ruleset`. The `add` ends with 0 and changes nothing: counts
#           are taken when a counter is made, and left out where it is there.
# To do:    who wants the saved counts deletes the table, or the counter, in the same transaction; who wants to go on counting
#           over a change of the rules need do nothing.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
cat >"$work/inside" <<'INSIDE'
packets() { nft list counter ip t c | sed -n 's/.*packets \([0-9]*\) .*/\1/p'; }
rules() { nft list chain ip t out | grep -c 'counter name'; }
send() { # COUNT: so many packets
    python3 -c 'import socket, sys
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(int(sys.argv[1])): made.sendto(b"x", ("127.0.0.1", 9))' "$1"
}
loaded() { # FIRST: a saved listing after that line; prints the status, the packets and the rules
    nft -f - <<'NFT'
flush ruleset
table ip t {
    counter c { }
    chain out { type filter hook output priority 0; udp dport 9 counter name "c"; }
}
NFT
    send 3
    nft list ruleset >/saved
    send 2
    local status=0
    { echo "$1"; cat /saved; } | nft -f - || status=$?
    echo "status $status, packets $(packets), rules $(rules)"
}
same "saved with 3, now 5, loaded as it is" "status 0, packets 5, rules 2" "$(loaded '')"
same "... after flush table ip t" "status 0, packets 5, rules 1" "$(loaded 'flush table ip t')"
same "... after delete table ip t" "status 0, packets 3, rules 1" "$(loaded 'delete table ip t')"
same "... after flush ruleset" "status 0, packets 3, rules 1" "$(loaded 'flush ruleset')"
status=0
nft add counter ip t c '{ packets 100 bytes 1000 ; }' || status=$?
same "add counter with 100" "status 0, packets 3" "status $status, packets $(packets)"
status=0
nft create counter ip t c 2>/tmp/said || status=$?
same "create counter" "status 1, packets 3" "status $status, packets $(packets)"
INSIDE
try() { # RELEASE VERSION
    echo "nftables $2"
    in_debian "$1" "nftables=$2-*" python3-minimal libpython3-stdlib <"$work/inside"
}
try bookworm 1.0.6
try trixie 1.1.3
try testing 1.1.7
