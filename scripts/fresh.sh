#!/usr/bin/env bash
# A fresh machine: `fresh.sh RELEASE DIR COMMAND ...` runs a command in a minbase root of Debian RELEASE (12, 13 or
# testing) below DIR, in a copy of this tree, with nothing installed but what the command installs.
#
# The root is made by debootstrap once and kept in SKEP_FRESH_CACHE (/var/cache/skep), with downloaded packages and
# libraries; after two weeks it is made anew. The command has processes, mounts and a host name of its own and this
# machine's network: when it ends, or this script is killed, its processes and mounts end with it. DIR must be short:
# unix sockets are below it. A root that is there from before is used as it is; who made DIR removes it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

KEPT_DAYS=14 # testing moves; an old root would not be what a user installs today

[ $# -ge 3 ] || { echo "usage: fresh.sh 12 | 13 | testing DIR COMMAND ..." >&2; exit 2; }
case $1 in
    12 | bookworm) release=bookworm ;;
    13 | trixie) release=trixie ;;
    testing) release=testing ;;
    *) fail "unknown release '$1': 12, 13 or testing" ;;
esac
dir=$2
cache=${SKEP_FRESH_CACHE:-/var/cache/skep}

need_root "$0"
need_packages debootstrap=debootstrap /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring \
    unshare=util-linux ip=iproute2 /bin/busybox=busybox-static

make_root() { # in the cache, whole or not at all
    local root=$cache/$release
    [ -d "$root" ] && [ -z "$(find "$root.made" -mtime +$KEPT_DAYS 2>/dev/null)" ] && [ -e "$root.made" ] && return
    say "making a fresh root of Debian $release (kept in $cache)"
    rm -rf "$root" "$root.making" "$root.made"
    if ! debootstrap --variant=minbase "$release" "$root.making" ${SKEP_DEBIAN_MIRROR:+"$SKEP_DEBIAN_MIRROR"} \
        >"$cache/$release.log" 2>&1; then
        tail -n 5 "$cache/$release.log" >&2
        rm -rf "$root.making"
        fail "debootstrap failed (see above): is the network there?"
    fi
    mv "$root.making" "$root"
    touch "$root.made"
}

copy_tree() { # what is in the work tree, as a clone of a commit of it would have it
    mkdir -p "$dir/root/skep"
    git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
        tar -c --null --files-from=- | tar -x -C "$dir/root/skep" --no-same-owner
}

mkdir -p "$cache/apt/$release/partial" "$cache/pip" "$dir"
(
    flock 9
    make_root
    [ -d "$dir/root" ] || cp -a --reflink=auto "$cache/$release" "$dir/root"
) 9>"$cache/lock"
copy_tree
# What this machine trusts besides Debian's own authorities: its way out may go through a proxy that signs.
mkdir -p "$dir/root/usr/local/share/ca-certificates"
cp /usr/local/share/ca-certificates/*.crt "$dir/root/usr/local/share/ca-certificates/" 2>/dev/null || true
# And how it reaches Debian's packages: a proxy, or a mirror that stands still.
apt-config dump | grep -E '^Acquire::(Check-(Valid-Until|Date)|https?::Proxy|Retries)' >"$dir/root/etc/apt/apt.conf.d/99machine" || true
cp /etc/resolv.conf "$dir/root/etc/resolv.conf"
# What is thrown away in the end need not survive a power failure: packages are unpacked without waiting for the disk.
echo force-unsafe-io >"$dir/root/etc/dpkg/dpkg.cfg.d/unsafe-io"

# shellcheck disable=SC2016  # for the shell inside
inside='
set -e
root=$1; cache=$2; release=$3; shift 3
hostname fresh
mount --bind "$root" "$root" # an engine turns its own root by pivot_root, which wants a mount
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 run "$root/run"
[ "$release" = bookworm ] || mount -t tmpfs -o mode=1777 tmp "$root/tmp" # the default since Debian 13
mount --bind "$cache/apt/$release" "$root/var/cache/apt/archives"
mkdir -p "$root/var/cache/pip"
mount --bind "$cache/pip" "$root/var/cache/pip"
cd "$root"
busybox pivot_root . mnt # which Debian testing has in no package that is always there
umount -l mnt
# Not exec: somebody has to be the parent of those whose parents end.
chroot . "$@"
'
kept=()
for name in http_proxy https_proxy no_proxy PIP_INDEX_URL PIP_CERT PIP_DEFAULT_TIMEOUT SKEP_DIFFERENTIAL CI TERM; do
    [ -z "${!name:-}" ] || kept+=("$name=${!name}")
done
exec unshare --mount --propagation private --pid --fork --kill-child --uts --ipc \
    bash -c "$inside" fresh "$dir/root" "$cache" "$release" \
    /usr/bin/env -i "${kept[@]}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    LANG=C.UTF-8 PIP_CACHE_DIR=/var/cache/pip SKEP_FRESH_INSIDE=yes \
    bash -c 'cd /skep && exec "$@"' fresh "${@:3}"
