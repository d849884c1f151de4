#!/usr/bin/env bash
# `bridge fdb append` of a second remote and `fdb del` with a wrong one end with 0 and do nothing.
#
# Versions: iproute2 6.1.0 (Debian 12) and what speaks netlink by itself, such as pyroute2 0.9.7: it is the kernel's
#           answer, tried with Linux 6.18.
# Question: a VXLAN device has an entry for a container's MAC with the remote 192.0.2.9. What do `append` with the
#           remote 192.0.2.10 (the container moves: first add, then delete) and `del` with 192.0.2.77 say and do?
# Guess:    append adds a second remote, as it does for 00:00:00:00:00:00, or fails with "File exists", as `add` does;
#           del says "No such file or directory", as for a MAC that is not there.
# Observed: both end with 0 and change nothing. Only the MAC of all zeros and multicast can have several remotes, which
#           append does not say. So "append the new remote, delete the old one" ends without any entry.
# To do:    `replace` for a MAC of one container (it changes the remote), `append` for the MAC of all zeros only
#           (which `replace` refuses); read the table back.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
temporary_folder
in_debian bookworm 'iproute2=6.1.0-*' <<'INSIDE'
ip link add vx0 type vxlan id 7 local 192.0.2.1 dstport 4789 nolearning
one=02:42:c6:33:64:09 all=00:00:00:00:00:00
fdb() { # COMMAND MAC ...: its status, and the remotes of the MAC after it
    local status=0 error
    error=$(bridge fdb "$1" "$2" dev vx0 "${@:3}" 2>&1) || status=$?
    echo "$status ($(bridge fdb show dev vx0 | grep "^$2" | grep -oE '192[0-9.]+' | sort | xargs))${error:+ $error}"
}
same "one container's MAC: add .9" "0 (192.0.2.9)" "$(fdb add $one dst 192.0.2.9)"
same "add .10" "255 (192.0.2.9) RTNETLINK answers: File exists" "$(fdb add $one dst 192.0.2.10)"
same "append .10" "0 (192.0.2.9)" "$(fdb append $one dst 192.0.2.10)"
same "del .77, which it does not have" "0 (192.0.2.9)" "$(fdb del $one dst 192.0.2.77)"
same "del of a MAC that is not there" "255 () RTNETLINK answers: No such file or directory" "$(fdb del 02:42:c6:33:64:0a dst 192.0.2.77)"
same "replace .10" "0 (192.0.2.10)" "$(fdb replace $one dst 192.0.2.10)"
same "append .11, then del .10" "0 ()" "$(fdb append $one dst 192.0.2.11 >/dev/null; fdb del $one dst 192.0.2.10)"
same "the MAC of all zeros: add .9" "0 (192.0.2.9)" "$(fdb add $all dst 192.0.2.9)"
same "append .10" "0 (192.0.2.10 192.0.2.9)" "$(fdb append $all dst 192.0.2.10)"
same "del .77, which it does not have" "0 (192.0.2.10 192.0.2.9)" "$(fdb del $all dst 192.0.2.77)"
INSIDE
