#!/usr/bin/env bash
# Runs a command as root on another kernel of Debian's (11 or later), emulated, with all files of this machine:
# `old_kernel.sh linux-image-5.10.0-32-cloud-amd64_5.10.223-1_amd64.deb pytest tests/integration/test_fast_path.py`.
# Says what the command says and ends as it does, or with 125 where the kernel did not come to its end. What it writes
# is gone with it: this machine's files are the lower part of an overlay. It has no network but its own.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

[ $# -ge 2 ] || { echo "usage: old_kernel.sh PACKAGE.deb COMMAND…" >&2; exit 2; }
package=$1
shift
LIMIT_S=1800 # three hosts' tests of the fast path take five to ten minutes
MEMORY=2G    # half of it may be files that are written

need_root "$0"
need_packages qemu-system-x86_64=qemu-system-x86 /bin/busybox=busybox-static dpkg=dpkg
files=/usr/lib/qemu/virtiofsd # Debian 12; later ones have it as a package
[ -x $files ] || fail "$files is missing: this script knows Debian 12's"

dir=$(mktemp -d "${TMPDIR:-/tmp}/skep-kernel.XXXXXX") # the machine sees it by the same path
daemon=
trap '[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true; rm -rf "$dir"' EXIT # it may have ended with the machine
dpkg -x "$package" "$dir"
version=$(ls "$dir/lib/modules")
/bin/busybox depmod -b "$dir" "$version"

first=$dir/first modules=lib/modules/$version
mkdir -p "$first"/{bin,dev,proc,low,high,root} "$first/$modules/kernel/fs" "$first/$modules/kernel/drivers"
cp -r "$dir/$modules/kernel/drivers/virtio" "$first/$modules/kernel/drivers/"
cp -r "$dir/$modules/kernel/fs"/{fuse,overlayfs} "$first/$modules/kernel/fs/"
/bin/busybox depmod -b "$first" "$version"
cp /bin/busybox "$first/bin/"
ln -s busybox "$first/bin/sh"
printf '%q ' "$@" >"$dir/command"
cat >"$first/init" <<END
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
for name in virtio_pci virtiofs overlay; do modprobe \$name; done
mount -t virtiofs -o ro host /low && mount -t tmpfs high /high && mkdir /high/upper /high/work
mount -t overlay -o lowerdir=/low,upperdir=/high/upper,workdir=/high/work root /root
exec switch_root /root /bin/bash $dir/second
END
cat >"$dir/second" <<END
export PATH=$PWD/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
export PYTHONPATH=$PWD/src PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for each in /dev/shm /run; do mount -t tmpfs tmpfs \$each; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
rm -rf /lib/modules && ln -s "$dir/lib/modules" /lib/modules
ln -sf /bin/busybox /sbin/modprobe # for the kernel, which asks for what is used
ip link set lo up
cd "$PWD"
stty -F /dev/ttyS1 -opost
setsid bash "$dir/command" </dev/null >/dev/ttyS1 2>&1
echo "ended \$?" >/dev/ttyS0
sync
echo o >/proc/sysrq-trigger
sleep 60
END
chmod +x "$first/init"
(cd "$first" && find . | /bin/busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$dir/initrd"

$files --socket-path="$dir/files" -o source=/ -o cache=always -o sandbox=chroot >"$dir/files.log" 2>&1 &
daemon=$!
until [ -S "$dir/files" ]; do kill -0 $daemon 2>/dev/null || fail "$(cat "$dir/files.log")"; sleep 0.1; done
timeout "$LIMIT_S" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m $MEMORY -display none -nodefaults \
    -no-reboot -object memory-backend-memfd,id=ram,size=$MEMORY,share=on -machine memory-backend=ram \
    -chardev "socket,id=files,path=$dir/files" -device vhost-user-fs-pci,chardev=files,tag=host \
    -kernel "$dir/boot/vmlinuz-$version" -initrd "$dir/initrd" -append "console=ttyS0 panic=-1 quiet" \
    -serial "file:$dir/console" -serial stdio </dev/null || true
status=$(sed -n 's/^.*ended \([0-9]*\)\r*$/\1/p' "$dir/console")
[ -n "$status" ] || { tail -n 20 "$dir/console" >&2; exit 125; }
exit "$status"
