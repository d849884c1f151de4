#!/usr/bin/env bash
# Engines of other releases: `engine_root.sh RELEASE` prints where a root of Debian RELEASE (12, 13 or testing) is that has
# that release's Docker Engine and Podman, for `engine.sh start DIR BRIDGE --root ROOT`.
#
# It is made by fresh.sh once and kept in SKEP_FRESH_CACHE (/var/cache/skep) beside the roots without anything, and as
# long as they, and longer while it is in use: who uses it has a shared lock on it (engines, and a run of ./check).
# Nobody writes there afterwards: engines have it read-only, and any number of them share it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

KEPT_DAYS=14 # as in fresh.sh

case ${1:-} in
    12 | bookworm) release=bookworm ;;
    13 | trixie) release=trixie ;;
    testing) release=testing ;;
    *) echo "usage: engine_root.sh 12 | 13 | testing" >&2; exit 2 ;;
esac
kept=${SKEP_FRESH_CACHE:-/var/cache/skep}/engines/$release

# shellcheck disable=SC2016  # for the shell inside
inside='
set -e
export DEBIAN_FRONTEND=noninteractive
printf "#!/bin/sh\nexit 101\n" >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d # nothing is started here
apt-get -q update
apt-get -q install -y --no-install-recommends -o Dpkg::Use-Pty=0 docker.io iptables nftables \
    podman netavark aardvark-dns crun conmon catatonit
rm -rf /skep/* /skep/.[!.]* /var/lib/apt/lists/*
'
need_root "$0"
mkdir -p "${kept%/*}"
exec 9>"$kept.lock"
flock 9
is_old() { # and nobody uses it, nor will before this script has ended
    [ -n "$(find "$kept.made" -mtime +$KEPT_DAYS)" ] && exec 8<"$kept" && flock --exclusive --nonblock 8
}
if [ ! -d "$kept" ] || [ ! -e "$kept.made" ] || is_old; then
    say "making a root of Debian $release with its engines (kept in ${kept%/*})"
    rm -rf "$kept.making"
    if ! scripts/fresh.sh "$release" "$kept.making" bash -c "$inside" >"$kept.log" 2>&1 </dev/null 8<&- 9>&-; then
        tail -n 5 "$kept.log" >&2
        rm -rf "$kept.making"
        fail "it could not be made: see above, and $kept.log"
    fi
    rm -rf "$kept.made" "$kept"
    mv "$kept.making/root" "$kept"
    rm -rf "$kept.making"
    touch "$kept.made"
fi
echo "$kept"
