#!/usr/bin/env bash
# To list a table's counters nft asks the kernel for every rule of every table.
#
# Version:  nftables 1.0.6 (Debian 12), 1.1.3 (Debian 13), 1.1.7 (Debian testing); Linux 6.18.
# Question: a collector reads named counters each few seconds: `nft list counters table ip t`, or one by its name. There
#           is another program's table, with many rules. What is read from the kernel?
# Guess:    the counters of that table: the kernel has a request for them (GETOBJ), which can name the table.
# Observed: 1.0.6 asks for every chain, rule, set and flow table of every table besides, also for one counter by its name,
#           and puts them together before it prints the counter: each rule of an engine's or a firewall's has its part in
#           what that takes. 1.1.3 and 1.1.7 ask for the table's counters. A set with counters in its elements is read alone by
#           all of them.
# To do:    with Debian 12's, count in a set's elements what is to be read often, or read it seldom: 1,000 named counters
#           beside the rules of 1,000 services took 0.1 s of a processor, a set of 2,000 counting elements a quarter of that.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
cat >"$work/inside" <<'INSIDE'
nft -f - <<'NFT'
table ip t {
    counter c { }
    set s { type inet_service; counter; elements = { 80 } }
    chain out { type filter hook output priority 0; udp dport 9 counter name "c"; }
}
table ip other {
    chain b {
        ip saddr 10.0.1.1 accept
        ip saddr 10.0.1.2 accept
        ip saddr 10.0.1.3 accept
    }
}
NFT
# What is asked of the kernel, by the names of nf_tables.h: requests are numbered 10 << 8 plus what these have there. One
# of 20 bytes is headers alone: it names no table.
asked() { # NFT-COMMAND ...
    nft --debug=mnl "$@" 2>&1 | awk -F'|' '
        /message length/ { bytes = $2 + 0 }
        /type \| flags/ {
            known = "2561 GETTABLE 2564 GETCHAIN 2567 GETRULE 2570 GETSET 2573 GETSETELEM 2576 GETGEN 2579 GETOBJ 2583 GETFLOWTABLE"
            count = split(known, name, " ")
            for (each = 1; each < count; each += 2)
                if ($2 + 0 == name[each]) printf "%s%s ", name[each + 1], bytes == 20 ? "(all)" : ""
        }' | tr ' ' '\n' | grep . | sort -u | paste -sd' '
}
rules() { asked list "$@" | grep -o 'GETRULE[^ ]*' || echo none; }
same "rules asked for by: list counters table ip t" "$1" "$(rules counters table ip t)"
same "... list counter ip t c" "$1" "$(rules counter ip t c)"
same "... list set ip t s" none "$(rules set ip t s)"
same "what that one asks for" "GETGEN(all) GETSET GETSETELEM GETTABLE" "$(asked list set ip t s)"
INSIDE
try() { # RELEASE VERSION RULES
    echo "nftables $2"
    in_debian "$1" "nftables=$2-*" < <(echo "set -- '$3'"; cat "$work/inside")
}
try bookworm 1.0.6 'GETRULE(all)'
try trixie 1.1.3 none
try testing 1.1.7 none
