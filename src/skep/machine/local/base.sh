#!/bin/sh
# Makes the base image of local machines: `base.sh RELEASE INIT MIRROR TO PACKAGE...`, in mount and process namespaces
# of its own. TO, with TO/root and TO/made, is there whole or not at all. MIRROR may be empty: debootstrap's own.
#
# Which packages there are, and how apt gets them, this host knows: its settings, authorities and nameservers are those
# that machines on it need, too.
set -eu
release=$1 init=$2 mirror=$3 to=$4
shift 4
making=$to.making root=$to.making/root
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin

rm -rf "$making"
mkdir -p "$making"
debootstrap --variant=minbase --include=ca-certificates "$release" "$root" ${mirror:+"$mirror"}

cp /etc/resolv.conf "$root/etc/resolv.conf"
cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
apt-config dump 2>/dev/null | grep -E '^Acquire::(Check-(Valid-Until|Date)|https?::Proxy|Retries)' \
    >"$root/etc/apt/apt.conf.d/90host" || true
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/90unsafe-io" # what is made half is thrown away
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"  # nothing is started here
chmod +x "$root/usr/sbin/policy-rc.d"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"

inside() { chroot "$root" "$@" </dev/null; }
inside update-ca-certificates
inside apt-get -q update
inside apt-get -q install -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@"

# What each machine has of its own, or at its own time.
rm -f "$root"/etc/ssh/ssh_host_* "$root/usr/sbin/policy-rc.d" "$root/etc/dpkg/dpkg.cfg.d/90unsafe-io" \
    "$root/var/lib/dbus/machine-id" "$root/etc/hostname" "$root/etc/resolv.conf"
: >"$root/etc/machine-id"
: >"$root/etc/fstab"
inside apt-get -q clean
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/log/*.log "$root"/var/log/apt/* "$root"/var/cache/debconf/*-old
rm -rf "$root"/var/lib/docker "$root"/var/lib/containerd "$root"/var/lib/etcd
mkdir -p "$root/var/lib/docker" "$root/var/lib/containerd" "$root/var/lib/skep" "$root/var/lib/etcd" "$root/lib/modules" "$root/mnt"

if [ "$init" = systemd ]; then
    # Terminals, devices, clock, addresses and the kernel's settings are the host's to care for.
    for each in getty@ serial-getty@ getty-static console-getty container-getty@ systemd-udevd systemd-udev-trigger \
        systemd-udev-settle systemd-timesyncd systemd-networkd systemd-networkd-wait-online \
        systemd-resolved systemd-firstboot systemd-pcrphase systemd-pcrphase-sysinit systemd-pstore; do
        ln -sf /dev/null "$root/etc/systemd/system/$each.service"
    done
    for each in systemd-udevd-control systemd-udevd-kernel systemd-networkd; do
        ln -sf /dev/null "$root/etc/systemd/system/$each.socket"
    done
    for each in dev-hugepages sys-kernel-debug sys-kernel-tracing sys-kernel-config sys-fs-fuse-connections; do
        ln -sf /dev/null "$root/etc/systemd/system/$each.mount"
    done
    ln -sf /dev/null "$root/etc/systemd/system/e2scrub_reap.service"
    rm -f "$root/lib/systemd/system/multi-user.target.wants/systemd-logind.service" # whom reboot(8) asks; it is there then
    for each in apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all fstrim man-db; do
        ln -sf /dev/null "$root/etc/systemd/system/$each.timer"
    done
    ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
    # Who provisions the machine switches its engine on.
    inside systemctl disable docker.service docker.socket containerd.service etcd.service || true
    inside systemctl enable ssh.service
else
    # What a runlevel starts is as always; what comes before it and after it, disks and clock, is the host's.
    printf '%s\n' id:2:initdefault: l0:0:wait:'/etc/init.d/rc 0' l2:2:wait:'/etc/init.d/rc 2' \
        l6:6:wait:'/etc/init.d/rc 6' pf::powerwait:'/sbin/telinit 0' ca::ctrlaltdel:'/sbin/telinit 6' \
        >"$root/etc/inittab"
    for each in umountnfs.sh umountfs umountroot hwclock.sh urandom networking; do
        rm -f "$root"/etc/rc[06].d/[KS][0-9][0-9]"$each"
    done
    rm -f "$root"/etc/rc[2345].d/S[0-9][0-9]etcd
    # Not every host lets its root open a million files.
    [ ! -e "$root/etc/init.d/docker" ] || sed -i 's/^\([[:space:]]*ulimit .*[^e]\)$/\1 || true/' "$root/etc/init.d/docker"
fi
umount -R -l "$root/dev" "$root/proc"
du -sm "$root" | cut -f1 >"$making/made"
rm -rf "$to"
mv "$making" "$to"
