#!/usr/bin/env bash
# Files of an emulated machine with a kernel of its own: `emulated.sh DIR` makes, from Debian 12, DIR/vmlinuz (its
# cloud kernel), DIR/initrd (which finds the disk) and DIR/root.ext4, with this tree in /skep, its libraries, an engine
# and etcd. What the kernel of the machine at hand lacks, as IPsec and IPVS, can be tried there: tests/emulated.
#
# A shell of the machine is at its second serial line: what is said there is done, as root. It is all that a machine
# runs; with the kernel's word system=systemd the first process is systemd, which starts what Debian's packages have it
# start (an engine, Debian's own etcd), and firewalld where somebody enables it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

[ $# = 1 ] || { echo "usage: emulated.sh DIR" >&2; exit 2; }
dir=$1
DISK=3G # a Debian with an engine, etcd, a kernel's modules and the libraries has 1.5 GB

need_root "$0"
need_packages mke2fs=e2fsprogs qemu-system-x86_64=qemu-system-x86 /bin/busybox=busybox-static

# shellcheck disable=SC2016  # for the shell inside
inside='
set -e
. scripts/lib.sh
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
printf "#!/bin/sh\nexit 101\n" >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d # nothing is started here
apt-get -qq install --no-install-recommends -o Dpkg::Use-Pty=0 python3 python3-venv etcd-server docker.io iptables \
    libnftables1 libbpf1 nftables busybox-static iproute2 procps curl openssl ca-certificates kmod tcpdump ipvsadm \
    iputils-ping netcat-openbsd systemd-sysv dbus firewalld >/dev/null
systemctl -q disable firewalld
# Whether a terminal is there is said by udev, which is not: systemd would wait for it.
systemctl -q mask serial-getty@ttyS0.service getty@tty1.service
make_venv dev
# The kernel without what makes an initrd: ours has to find one disk only.
cd /tmp
package=$(apt-cache depends linux-image-cloud-amd64 | sed -n "s/.*Depends: \(linux-image-[0-9].*\)/\1/p" | head -n 1)
apt-get -qq download "$package" >/dev/null
dpkg -x linux-image-*.deb kernel # not over /lib, which is a link
mv kernel/lib/modules /lib/modules
mv kernel/boot/vmlinuz-* /boot/
rm -rf linux-image-*.deb kernel
depmod "$(ls /lib/modules)"
'
mkdir -p "$dir"
say "the root of an emulated machine, from Debian 12"
scripts/fresh.sh 12 "$dir/fresh" bash -c "$inside" >"$dir/root.log" 2>&1 </dev/null ||
    { tail -n 5 "$dir/root.log" >&2; fail "it could not be made: see above"; }
root=$dir/fresh/root
cp "$root"/boot/vmlinuz-* "$dir/vmlinuz"

cat >"$root/sbin/emulated" <<'EOF'
#!/bin/bash
# The first process of the machine. Its own address is the kernel's word: address=10.214.0.1/24
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
modprobe virtio_net
ip link set lo up
address=$(sed 's/.*address=\([^ ]*\).*/\1/' /proc/cmdline)
sed 's/.*name=\([^ ]*\).*/\1/' /proc/cmdline >/etc/hostname
hostname -F /etc/hostname
ip addr add "$address" dev eth0
ip link set eth0 up
! grep -q system=systemd /proc/cmdline || exec /sbin/init
exec /sbin/emulated-shell
EOF
cat >"$root/sbin/emulated-shell" <<'EOF'
#!/bin/bash
export HOME=/root LANG=C.UTF-8
cd /skep
stty -F /dev/ttyS1 raw -echo # no echo, and lines of any length
while :; do setsid dash </dev/ttyS1 >/dev/ttyS1 2>&1; sleep 0.2; done
EOF
chmod +x "$root/sbin/emulated" "$root/sbin/emulated-shell"
mkdir -p "$root/etc/systemd/system/sysinit.target.wants"
cat >"$root/etc/systemd/system/emulated-shell.service" <<'EOF'
[Unit]
Description=a shell at the second serial line
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
[Service]
ExecStart=/sbin/emulated-shell
# A shell at a terminal ignores SIGTERM.
KillSignal=SIGKILL
EOF
ln -sf ../emulated-shell.service "$root/etc/systemd/system/sysinit.target.wants/"

first=$dir/first # of the machine's life: loads what its disk needs, and goes on there
rm -rf "$first"
mkdir -p "$first"/{bin,dev,proc,root,modules}
cp /bin/busybox "$first/bin/busybox"
modules=$(ls "$root/lib/modules")
for name in virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
    file=$(find "$root/lib/modules/$modules" -name "$name.ko" | head -n 1)
    [ -z "$file" ] || { cp "$file" "$first/modules/"; echo "$name" >>"$first/modules/order"; }
done
cat >"$first/init" <<'EOF'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
while read -r name; do /bin/busybox insmod "/modules/$name.ko"; done </modules/order
while [ ! -e /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root && exec /bin/busybox switch_root /root /sbin/emulated
EOF
ln -s busybox "$first/bin/sh"
chmod +x "$first/init"
(cd "$first" && find . | /bin/busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$dir/initrd"

rm -f "$dir/root.ext4"
mke2fs -q -t ext4 -d "$root" "$dir/root.ext4" $DISK
say "emulated machines: $dir/root.ext4"
