#!/usr/bin/env bash
# firewalld with its nftables backend takes away what others have in iptables, when it starts and when it is reloaded.
#
# Version:  firewalld 1.3.3 (Debian 12), FirewallBackend=nftables, Debian's own configuration.
# Question: a chain and a rule in iptables' filter table, as Docker's engine has them, and FORWARD's policy DROP. firewalld
#           starts. What is left of them? And of the same made again, after `firewall-cmd --reload`? And of an nftables
#           table of somebody else's?
# Guess:    all of it: what firewalld itself wants is in its own table `inet firewalld`, and there are no direct rules.
# Observed: the chain and the rule are gone both times, the policy DROP stays: nothing is forwarded any more. The nftables
#           table stays. An engine has no published ports and no way out for its containers until it is started again.
# To do:    look for rules in iptables again and again; start firewalld before the engine.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
cat >"$work/inside" <<'INSIDE'
rules() {
    iptables -N HERS 2>/dev/null || true
    iptables -A FORWARD -j HERS
    iptables -P FORWARD DROP
}
seen() { iptables -S | paste -sd' '; }
mkdir -p /run/dbus
dbus-daemon --system --fork --nopidfile
nft add table ip other
rules
same "before" "-P INPUT ACCEPT -P FORWARD DROP -P OUTPUT ACCEPT -N HERS -A FORWARD -j HERS" "$(seen)"
firewalld --nofork --nopid >/firewalld.log 2>&1 &
for _ in $(seq 60); do ! firewall-cmd --state >/dev/null 2>&1 || break; sleep 1; done
none="-P INPUT ACCEPT -P FORWARD DROP -P OUTPUT ACCEPT"
same "firewalld has started" "$none" "$(seen)"
rules
firewall-cmd -q --reload
same "firewall-cmd --reload" "$none" "$(seen)"
same "somebody's nftables table" "table ip other" "$(nft list table ip other | head -n 1 | tr -d '{' | xargs)"
INSIDE
in_debian bookworm "firewalld=1.3.3*" dbus iptables nftables <"$work/inside"
