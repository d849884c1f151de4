"""Hosts as users have them: an address, sshd, Debian's Docker Engine; with its init script, or with systemd.

Each is a network namespace with a root of its own: this machine's programs (/usr, read-only), its /etc with whatever
the host changes of it kept apart, and nothing of its /etc/docker, /run and /var.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import zlib
from pathlib import Path

from .hosts import wait_until
from .netns import PREFIX, ip

NETWORK = f"10.214.{zlib.crc32(PREFIX.encode()) % 250}"  # another run's beside it is another
START_S = 20.0

# In a mount and a process namespace of its own: $1 is the host's directory.
_INSIDE = r"""
set -e
dir=$1 root=$1/root
own_devices() { # systemd makes and removes some
    local name
    mount -t tmpfs -o mode=755 dev $root/dev
    for name in null zero full random urandom tty; do
        : >$root/dev/$name
        mount --bind /dev/$name $root/dev/$name
    done
    mkdir -p $root/dev/pts $root/dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts $root/dev/pts
    ln -s pts/ptmx $root/dev/ptmx
    ln -s /proc/self/fd $root/dev/fd
    mount -t tmpfs shm $root/dev/shm
}
own_cgroups() { # of the namespace that it is in
    local each
    mount -t sysfs sysfs $root/sys
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        mount -t cgroup2 cgroup $root/sys/fs/cgroup
        return
    fi
    mount -t tmpfs -o mode=755 cgroup $root/sys/fs/cgroup
    for each in cpu cpuacct cpuset memory devices freezer blkio pids; do
        mkdir $root/sys/fs/cgroup/$each
        mount -t cgroup -o $each cgroup $root/sys/fs/cgroup/$each
    done
    mkdir $root/sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup $root/sys/fs/cgroup/systemd
}
own_units() { # what is switched on on this machine is not on the host
    local each
    mkdir -p $dir/units
    mount --bind $dir/units $root/etc/systemd/system
    ln -sfn /lib/systemd/system/multi-user.target $root/etc/systemd/system/default.target
    for each in getty@ getty-static console-getty systemd-{udevd,udev-trigger,timesyncd,logind,networkd,resolved}; do
        ln -sfn /dev/null $root/etc/systemd/system/$each.service
    done
    for each in docker containerd skepd; do # and it lets no unit open so many files
        mkdir -p $root/etc/systemd/system/$each.service.d
        printf '[Service]\nLimitNOFILE=\nLimitNPROC=\nLimitCORE=\nOOMScoreAdjust=0\n' \
            >$root/etc/systemd/system/$each.service.d/limits.conf
    done
}
mkdir -p $root/{proc,sys,dev,run,tmp,usr,etc,root,mnt,var/log,var/tmp,var/lib,var/cache} $dir/{etc,work,local,work-local}
mount --bind $root $root
for link in bin sbin lib lib64 lib32; do
    [ ! -L /$link ] || ln -sfn "$(readlink /$link)" $root/$link
done
ln -sfn /run $root/var/run
chmod 1777 $root/tmp $root/var/tmp
mount --bind /usr $root/usr
mount -o remount,bind,ro $root/usr
mount -t overlay overlay -o lowerdir=/etc,upperdir=$dir/etc,workdir=$dir/work $root/etc
mount -t overlay overlay -o lowerdir=/usr/local,upperdir=$dir/local,workdir=$dir/work-local $root/usr/local
mkdir -p $root/etc/docker
mount --bind $dir/docker $root/etc/docker
mount -t proc proc $root/proc
mount -t tmpfs -o mode=755 run $root/run
mount --bind $dir/ssh $root/root/.ssh
if [ "$3" = systemd ]; then
    own_devices
    own_cgroups
    own_units
else
    mount --rbind /dev $root/dev
    mount --rbind /sys $root/sys
fi
cd $root
busybox pivot_root . mnt # which Debian testing has in no package that is always there
umount -l mnt
hostname "$2"
mkdir -p /run/sshd /run/lock
# Not every machine lets its root open a million files.
sed -i 's/^\([[:space:]]*\)ulimit .*/\1true/' /etc/init.d/docker
sed -i 's/^root:[^:]*:/root:*:/' /etc/shadow
rm -f /etc/default/docker
: >/run/ready
[ "$3" != systemd ] || exec env container=skep \
    /lib/systemd/systemd --system SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 # of systemd 256 and 257, read in containers
trap 'kill -9 -1' TERM
while :; do sleep 3600 & wait $! || true; done
"""

# What is on the host is in a cgroup of its own, by each controller: systemd makes more below.
_IN_CGROUP = r"""
tops=/sys/fs/cgroup
[ -e $tops/cgroup.controllers ] || tops=$tops/*  # of version 1: a tree for each
for each in $tops; do
    [ -e $each/cgroup.procs ] || continue
    mkdir -p $each/$1
    for part in cpus mems; do
        [ ! -e $each/cpuset.$part ] || cat $each/cpuset.$part >$each/$1/cpuset.$part
    done
    echo $$ >$each/$1/cgroup.procs
done 2>/dev/null
shift
exec "$@"
"""

_SSHD = """Port 22
HostKey /root/.ssh/host_key
AuthorizedKeysFile /root/.ssh/authorized_keys
PidFile /run/sshd.pid
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
"""


class MachineHost:
    """One host, number `number` of its network. `root` is where its files are seen from here once it runs."""

    def __init__(self, directory: Path, name: str, number: int, by: str = "init") -> None:
        self._by = by
        self.directory = directory / name
        self.name = name
        self.namespace = f"{PREFIX}m{number}"
        self.address = f"{NETWORK}.{number + 1}"
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0

    def start(self) -> MachineHost:
        """Plugs it in and switches it on; sshd answers. Its engine is not started. `by`: init, or systemd."""
        for each in ("docker", "ssh", "root/root/.ssh"):
            (self.directory / each).mkdir(parents=True, exist_ok=True)
        if not (self.directory / "ssh/host_key").exists():
            self.new_host_key()
        (self.directory / "ssh/sshd_config").write_text(_SSHD)
        if not Path(f"/var/run/netns/{self.namespace}").exists():
            self._plug_in()
        self.power_on()
        return self

    def power_on(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("bash", "-c", _IN_CGROUP, "host", self.namespace),
                    *("nsenter", f"--net=/var/run/netns/{self.namespace}", "--"),
                    *(
                        "unshare",
                        "--mount",
                        "--propagation",
                        "private",
                        "--pid",
                        "--uts",
                        "--ipc",
                        "--cgroup",
                    ),
                    *("--fork", "--kill-child", "bash", "-c", _INSIDE, "host"),
                    *(str(self.directory), f"{self.name}-before", self._by),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(f"{self.name} runs: {self.log()}", self._is_ready, START_S)
        self.start_sshd()

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"{self.name} ended: {self.log()}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            return False
        self._init = int(children[0])
        return (self.root / "run/ready").exists()

    @property
    def is_on(self) -> bool:
        """False once its first process has ended, whoever ended it."""
        return self._process is not None and self._process.poll() is None

    @property
    def root(self) -> Path:
        return Path(f"/proc/{self._init}/root")

    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text()[-2000:] if path.exists() else ""

    def run(self, script: str, check: bool = True) -> str:
        """Returns what a script of sh prints on the host."""
        done = subprocess.run(
            ["nsenter", f"--target={self._init}", "--all", "--", "sh", "-c", f"cd /; {script}"],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert not check or done.returncode == 0, f"{script}: {done.stderr}"
        return done.stdout

    def start_sshd(self) -> None:
        self.run("/usr/sbin/sshd -f /root/.ssh/sshd_config")

    def stop_sshd(self) -> None:
        self.run("kill $(cat /run/sshd.pid)")
        wait_until("sshd ends", lambda: not (self.root / "run/sshd.pid").exists())

    def new_host_key(self) -> None:
        """The host is installed anew: sshd has another key when it starts again."""
        path = self.directory / "ssh/host_key"
        path.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)

    def let_in(self, key: Path) -> None:
        (self.directory / "ssh/authorized_keys").write_text(key.with_suffix(".pub").read_text())

    def cable(self, state: str) -> None:
        """`down`: nothing arrives and nobody is told."""
        ip("-n", self.namespace, "link", "set", "eth0", state)

    def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)  # and by --kill-child all that is on the host
            self._process.wait(10)
            self._process = None
            tops = Path("/sys/fs/cgroup")  # not all below: others' come and go meanwhile
            for each in (*tops.glob(self.namespace), *tops.glob(f"*/{self.namespace}")):
                wait_until(f"{each} is empty", lambda each=each: _remove_cgroups(each))
        for command in (("netns", "del", self.namespace), ("link", "del", self._end)):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip(*command)

    @property
    def _end(self) -> str:
        return f"{self.namespace}h"

    def _plug_in(self) -> None:
        """A cable between the tests' network and the host's; the address is the host's alone."""
        ip("netns", "add", self.namespace)
        ip("link", "add", self._end, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("addr", "add", f"{NETWORK}.1/32", "dev", self._end)
        ip("link", "set", self._end, "up")
        ip("route", "replace", f"{self.address}/32", "dev", self._end, "src", f"{NETWORK}.1")
        ip("-n", self.namespace, "link", "set", "lo", "up")
        ip("-n", self.namespace, "addr", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", self.namespace, "link", "set", "eth0", "up")


def _remove_cgroups(top: Path) -> bool:
    """Returns whether it is gone with all below: what has been killed takes a moment to end."""
    for each in sorted(top.glob("**/"), key=lambda each: len(each.parts), reverse=True):
        with contextlib.suppress(OSError):
            each.rmdir()
    return not top.exists()


def ssh_key(directory: Path, name: str = "id") -> Path:
    """Returns a user's new private key; its public half is beside it."""
    path = directory / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path
