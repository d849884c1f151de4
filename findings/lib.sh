# What the findings share: a temporary folder, a Debian root with pinned packages in it, an engine, and `same`.
# Sourced by bash, outside of such a root and again inside it. Exit status of a finding: 0 as written down, 1 it has
# changed, 2 it could not be tried (no network, a package version that the mirror no longer has).
set -euo pipefail
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

CACHE=${FINDINGS_CACHE:-/var/cache/skep} # a debootstrap root named as its release is taken from here, where there is one
KEPT=${FINDINGS_KEEP:+yes}               # set FINDINGS_KEEP=1 to look around in the folder afterwards

cannot() { printf 'cannot try this: %s\n' "$*" >&2; exit 2; }
saw() { printf '  %s\n' "$*"; }

# same WHAT EXPECTED SEEN: prints what was seen; ends the finding with 1 if it is not what was seen when it was written.
same() {
    printf '  %-58s %s\n' "$1:" "${3:-(nothing)}"
    [ "$2" = "$3" ] || { printf 'CHANGED: %s\n  then: %s\n  now:  %s\n' "$1" "$2" "$3" >&2; exit 1; }
}

temporary_folder() { # in $work, short, for unix sockets are below it; removed at the end
    [ "$(id -u)" -eq 0 ] || cannot "it needs root"
    work=$(mktemp -d /tmp/findXXXX)
    [ "$KEPT" ] || trap 'rm -rf --one-file-system "$work"' EXIT
}

# in_debian RELEASE PACKAGE=VERSION ... <SCRIPT: a minbase root of RELEASE, the packages (versions may be patterns) and
# what they depend on, and SCRIPT in it, with this file read, in namespaces of its own without a way out to any network.
in_debian() {
    local release=$1 root packages=("${@:2}")
    root=$work/$release
    command -v debootstrap >/dev/null || cannot "debootstrap is missing"
    command -v busybox >/dev/null || cannot "busybox is missing"
    if [ -d "$root" ]; then
        :
    elif [ -e "$CACHE/$release.made" ]; then
        cp -a --reflink=auto "$CACHE/$release" "$root"
    else
        debootstrap --variant=minbase "$release" "$root" >"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; cannot "debootstrap failed"; }
    fi
    # How this machine reaches Debian's packages and Python's: authorities, a proxy, a mirror that stands still.
    mkdir -p "$root/usr/local/share/ca-certificates"
    cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
    apt-config dump | grep -E '^Acquire::(Check-(Valid-Until|Date)|https?::Proxy|Retries)' >"$root/etc/apt/apt.conf.d/99machine" || true
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    # Packages that were downloaded before: copied, for apt locks the folder it works in and does not wait.
    cp "$CACHE/apt/$release/"*.deb "$root/var/cache/apt/archives/" 2>/dev/null || true
    cp "${BASH_SOURCE[0]}" "$root/lib.sh"
    cat >"$root/script"
    local status=0
    unshare --mount --propagation private --pid --fork --kill-child --uts --ipc \
        bash -c "$(declare -f become_root install_packages cannot); become_root \"\$@\"" finding "$root" "${packages[@]}" || status=$?
    [ $status -eq 0 ] || exit $status
}

become_root() { # ROOT PACKAGE ...
    local root=$1
    hostname finding
    mount --bind "$root" "$root" # engines turn their own root by pivot_root, which wants a mount
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mount -t proc proc "$root/proc"
    mount -t tmpfs -o mode=755 run "$root/run"
    mount -t tmpfs -o mode=1777 tmp "$root/tmp"
    cd "$root"
    busybox pivot_root . mnt # Debian testing has it from no package that is always there
    umount -l mnt
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
    chroot . bash -c "$(declare -f install_packages cannot); install_packages \"\$@\"" finding "${@:2}" || exit $?
    chroot . unshare --net bash -c 'ip link set lo up; . /lib.sh; . /script'
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    local options=(-qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d # no service is started by its package
    chmod +x /usr/sbin/policy-rc.d
    { apt-get "${options[@]}" update &&
        apt-get "${options[@]}" install -y --no-install-recommends ca-certificates iproute2 "$@"; } >/install.log 2>&1 </dev/null ||
        { tail -n 5 /install.log >&2; cannot "apt could not install $*"; }
}

# on_engine VERSION PACKAGE ... <SCRIPT: in_debian, of the release that has this Docker Engine.
on_engine() {
    local packages=("docker.io=$1+*" iptables busybox-static "${@:2}") release
    case $1 in
        20.10.24) release=bookworm ;;
        26.1.5) release=trixie packages+=("docker-cli=$1+*") ;;
        28.5.2) release=testing packages+=("docker-cli=$1+*") ;;
        *) cannot "no release has Docker $1" ;;
    esac
    printf 'Docker Engine %s\n' "$1"
    in_debian $release "${packages[@]}"
}

# start_engine, stop_engine: the root's only one, with a bridge of its own; its log is /run/engine/log.
start_engine() {
    mkdir -p /run/engine
    ip link add br0 type bridge
    ip addr add 10.99.0.1/24 dev br0
    ip link set br0 up
    dockerd --exec-root /run/engine/exec --pidfile /run/engine/pid --bridge br0 >>/run/engine/log 2>&1 </dev/null &
    within 60 docker version || { tail -n 5 /run/engine/log >&2; cannot "the engine does not answer"; }
}

stop_engine() {
    kill "$(cat /run/engine/pid)"
    wait
    ip link del br0
}

# image: "box", of a static busybox alone.
image() { tar -c -C / --transform="s,.*/,bin/," usr/bin/busybox | docker import - box >/dev/null; }

within() { # SECONDS COMMAND ...: whether the command succeeds, tried every half second
    local until=$((SECONDS + $1))
    until "${@:2}" >/dev/null 2>&1; do [ $SECONDS -lt $until ] || return 1; sleep 0.5; done
}
