#!/bin/sh
# A local machine that is switched on: `host.sh run` is there as long as it is, and starts it again when it reboots.
# Runs in a mount namespace of its own, so that nothing of it is seen elsewhere, or left. `host.sh clear` removes the
# control groups that are left where that was killed.
#
# By the environment come DIR (the machine's), BASE (the image's root), NAME, INIT (systemd or sysv), LAN (the file that
# the bridge's network namespace is known by), PORT (the machine's there), ADDRESS/PREFIX, GATEWAY, MAC, GROUP (its
# control group), MEMORY (bytes) and CPU_MILLIS (thousandths of a processor); both are empty where there is no limit.
set -eu
export LC_ALL=C PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin

# --- in the host's namespaces, but for mounts

identity() { # of this shell, as it is known in the /proc that is mounted: no other process is taken for it later
    read -r line </proc/self/stat
    # shellcheck disable=SC2086
    set -- $line
    boot=$(cat /proc/sys/kernel/random/boot_id)
    shift 21 && set -- "${line%% *}" "$1"
    echo "$1 $2 $boot" >"$DIR/$role.new"
    mv "$DIR/$role.new" "$DIR/$role"
}

mount_groups() { # each tree of control groups, wherever the host has it
    mkdir -p "$DIR/cgroup"
    mount -t tmpfs groups "$DIR/cgroup"
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        mkdir "$DIR/cgroup/all"
        mount -t cgroup2 cgroup "$DIR/cgroup/all"
        return
    fi
    { cut -d: -f2 /proc/self/cgroup; echo name=systemd; } | sort -u | while read -r each; do
        mount_tree "$each" "$DIR/cgroup/${each:-unified}"
    done
}

mount_tree() { # $1: its controllers, or its name; a host with version 1 has one of version 2 beside, which is called nothing
    mkdir "$2"
    case $1 in
        "" | unified) mount -t cgroup2 cgroup "$2" ;;
        name=*) mount -t cgroup -o "none,$1" cgroup "$2" ;;
        *) mount -t cgroup -o "$1" cgroup "$2" ;;
    esac
}

make_groups() {
    for tree in "$DIR"/cgroup/*; do
        # Who removes the last machine may remove what is above, meanwhile.
        mkdir -p "$tree/$GROUP" 2>/dev/null || mkdir -p "$tree/$GROUP"
        for each in "$tree" "$tree/${GROUP%/*}"; do
            [ -e "$each/cgroup.subtree_control" ] || continue
            for controller in $(cat "$each/cgroup.controllers"); do
                echo "+$controller" >"$each/cgroup.subtree_control" || true
            done
        done
        for part in cpus mems; do # of version 1: new groups have none
            [ -e "$tree/cpuset.$part" ] && [ ! -e "$tree/cgroup.controllers" ] || continue
            for each in "$tree/${GROUP%/*}" "$tree/$GROUP"; do
                cat "$tree/cpuset.$part" >"$each/cpuset.$part"
            done
        done
        limit "$tree/$GROUP/memory.limit_in_bytes" "$MEMORY"
        limit "$tree/$GROUP/memory.max" "$MEMORY"
        limit "$tree/$GROUP/cpu.cfs_quota_us" "${CPU_MILLIS:+${CPU_MILLIS}00}" # of a period of 100 ms
        limit "$tree/$GROUP/cpu.max" "${CPU_MILLIS:+${CPU_MILLIS}00 100000}"
    done
}

limit() {
    [ -z "$2" ] || [ ! -e "$1" ] || echo "$2" >"$1"
}

remove_groups() { # what has been killed takes a moment to end
    for tree in "$DIR"/cgroup/*; do
        for _ in $(seq 50); do
            [ -d "$tree/$GROUP" ] || break
            find "$tree/$GROUP" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
        done
        rmdir "$tree/${GROUP%/*}" 2>/dev/null || true # the last one's
    done
}

remove_port() {
    nsenter --net="$LAN" ip link del "$PORT" 2>/dev/null || true
}

run() {
    exec 9>"$DIR/lock"
    flock --nonblock 9 || exit 0
    role=supervisor identity
    mount_groups
    for tree in "$DIR"/cgroup/*; do echo $$ >"$tree/cgroup.procs"; done # no session's, which could end it
    while :; do
        make_groups
        remove_port
        status=0
        sh "$0" boot 9>&- || status=$?
        # The first process ends by SIGHUP at a reboot, by SIGINT at power off.
        [ "$status" = 129 ] || break
    done
    rm -f "$DIR/init"
    remove_port
    remove_groups
    exit "$status"
}

boot() {
    for tree in "$DIR"/cgroup/*; do echo $$ >"$tree/$GROUP/cgroup.procs"; done
    exec unshare --net sh "$0" plug
}

# --- in the machine's network namespace

plug() {
    ip link set lo up
    nsenter --net="$LAN" ip link add "$PORT" type veth peer name eth0 address "$MAC" netns $$
    nsenter --net="$LAN" ip link set "$PORT" master br0 up
    ip addr add "$ADDRESS/$PREFIX" dev eth0
    ip link set eth0 up
    ip route add default via "$GATEWAY"
    exec unshare --mount --propagation private --pid --uts --ipc --cgroup --fork --kill-child sh "$0" inside
}

# --- in all of its namespaces

own_devices() {
    mount -t tmpfs -o mode=755,nosuid dev dev
    for each in null zero full random urandom tty fuse net/tun; do
        [ -e "/dev/$each" ] || continue
        [ "${each%/*}" = "$each" ] || mkdir -p "dev/${each%/*}"
        : >"dev/$each"
        mount --bind "/dev/$each" "dev/$each"
    done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
    mount -t tmpfs -o mode=1777,nosuid,nodev shm dev/shm
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    for each in stdin:0 stdout:1 stderr:2; do ln -s "/proc/self/fd/${each#*:}" "dev/${each%:*}"; done
}

own_kernel() { # its own network's settings can be written; what is all the host's can not
    mount -t proc proc proc
    mount --bind proc/sys proc/sys
    mount -o remount,bind,ro proc/sys
    mount --bind proc/sys/net proc/sys/net
    mount -o remount,bind,rw proc/sys/net
    if [ -e proc/sysrq-trigger ]; then
        mount --bind proc/sysrq-trigger proc/sysrq-trigger
        mount -o remount,bind,ro proc/sysrq-trigger
    fi
    mount -o ro -t sysfs sysfs sys # drivers, power, memory: the host's; control groups are mounted over it
}

own_groups() {
    if [ -e "$DIR/cgroup/all" ]; then
        mount -t cgroup2 cgroup sys/fs/cgroup
        return
    fi
    mount -t tmpfs -o mode=755 groups sys/fs/cgroup
    for tree in "$DIR"/cgroup/*; do
        each=${tree##*/}
        mount_tree "$each" "sys/fs/cgroup/${each#name=}"
        case $each in *,*) for one in $(echo "$each" | tr , ' '); do ln -s "$each" "sys/fs/cgroup/$one"; done ;; esac
    done
}

own_limits() { # not every root may raise them: units that ask for more would not start
    capabilities=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
    [ $((0x$capabilities >> 24 & 1)) = 0 ] || return 0
    mkdir -p run/systemd/system/service.d
    printf '[Service]\nLimitNOFILE=\nLimitNPROC=\nLimitCORE=\nOOMScoreAdjust=0\n' \
        >run/systemd/system/service.d/90-host-limits.conf
}

inside() {
    role=init
    mount -t overlay overlay -o "lowerdir=$BASE,upperdir=$DIR/upper,workdir=$DIR/work" "$DIR/root"
    cd "$DIR/root"
    for each in docker containerd skep; do # what makes overlays itself, or asks its disk to keep what it wrote
        mount --bind "$DIR/data/$each" "var/lib/$each"
    done
    if [ -d /lib/modules ]; then
        mount --bind /lib/modules lib/modules
        mount -o remount,bind,ro lib/modules
    fi
    own_devices
    mount -t tmpfs -o mode=755,nosuid,nodev run run
    mkdir run/lock run/sshd
    [ "$INIT" != systemd ] || own_limits # whose directory there is what tells of it
    identity
    own_kernel
    own_groups
    hostname "$NAME"
    bin/busybox pivot_root . mnt
    cd /
    umount -l mnt
    # The clock is the host's.
    set -- setpriv --bounding-set=-sys_time --inh-caps=-sys_time env -i container=skep PATH="$PATH"
    if [ "$INIT" = systemd ]; then
        # Of systemd 256 and 257: they take control groups of version 1 only where they are told so.
        exec "$@" /lib/systemd/systemd --system SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1
    fi
    exec "$@" /sbin/init
}

clear() {
    mount_groups
    remove_groups
    remove_port
}

case $1 in
    run | boot | plug | inside | clear) "$1" ;;
    *) exit 2 ;;
esac
