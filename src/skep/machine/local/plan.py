"""What local machines are: their images and limits, and what their script is told. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Sequence
from pathlib import PurePath

from msgspec import Struct

from skep.machine.local.addresses import mac_of, network_environment
from skep.runtime.errors import Invalid, Unsupported

RELEASES = ("bookworm", "trixie", "testing")
SYSTEMD, SYSV = "systemd", "sysv"
MEMORY_MIN = 128 << 20  # systemd, sshd and an engine without containers take 90 MB
CPU_MILLIS_MIN = 10  # less than the kernel's smallest share: 1 ms of its period of 100
HOST_LENGTH_MAX = 70  # a machine's name, and six digits
_HOST = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.-]*-[0-9a-f]{6}")
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
# What skepd, its etcd and its engine use, and who looks after them.
_PACKAGES = (
    *("openssh-server", "docker.io", "etcd-server", "python3", "python3-venv", "libnftables1", "libbpf1"),
    *("iproute2", "iptables", "iputils-ping", "kmod", "procps", "busybox-static", "ca-certificates"),
    *("curl", "less", "netbase", "sudo"),
)
_OF_INIT = {SYSTEMD: ("systemd", "systemd-sysv", "dbus"), SYSV: ("sysvinit-core", "sysv-rc")}


class Details(Struct, frozen=True, kw_only=True, rename="pascal"):
    """A machine's `details`. `host` is its name in `directory`, empty until it has one; `release` and
    `network`: those that were asked for, empty where none was; `memory` in bytes, `cpu_millis` in thousandths
    of a processor, 0: no limit."""

    directory: str
    base_directory: str
    release: str = ""
    mirror: str = ""
    network: str = ""
    memory: int = 0
    cpu_millis: int = 0
    host: str = ""


class Image(Struct, frozen=True):
    """What is made once for all machines of a release. `packages` are those that it is made of."""

    release: str
    init: str
    packages: tuple[str, ...]

    def name(self, recipe: bytes) -> str:
        """Returns its directory's name: another one where its packages, or how it is made, are others."""
        said = "\n".join((self.release, self.init, *self.packages)).encode()
        return f"{self.release}-{self.init}-{hashlib.sha256(said + recipe).hexdigest()[:8]}"


class LocalHost(Struct, frozen=True, kw_only=True):
    """A machine's own, as it is kept in its directory (`host.json`). `image` is a path."""

    name: str
    image: str
    init: str
    address: str
    memory: int = 0
    cpu_millis: int = 0


def default_release(os_release: str) -> str:
    """Returns the release of the host whose /etc/os-release it is, where that can be had; else bookworm."""
    found = re.search(r'^VERSION_CODENAME="?(\w+)"?$', os_release, re.MULTILINE)
    return found[1] if found and found[1] in RELEASES else RELEASES[0]


def image_of(release: str, *, has_groups_v2: bool) -> Image:
    """Returns the image of a release for this host. systemd from 258 on, testing's, takes control groups of
    version 2 only: machines are by System V's init where the host has version 1. Errors: `Invalid`."""
    if release not in RELEASES:
        raise Invalid(f"--local-release {release}: it is one of {', '.join(RELEASES)}")
    init = SYSV if release == "testing" and not has_groups_v2 else SYSTEMD
    packages = [*_OF_INIT[init], *_PACKAGES]
    if release != "bookworm":
        packages.append("docker-cli")  # since Debian 13 a package of its own
    if release == "testing" and init == SYSV:
        packages += ("systemd-standalone-sysusers", "systemd-standalone-tmpfiles")
    return Image(release, init, tuple(sorted(packages)))


def memory_of(text: str) -> int:
    """Returns bytes: "1g", "512MB". 0 of an empty text: no limit. Errors: `Invalid`."""
    if not text:
        return 0
    found = re.fullmatch(r"(\d{1,15})([bkmg]?)(?:i?b)?", text.lower())
    if not found:
        raise Invalid(f"--local-memory {text}: it is a number with b, k, m or g")
    value = int(found[1]) * _UNITS[found[2]]
    if not MEMORY_MIN <= value < 1 << 50:
        raise Invalid(f"--local-memory {text}: a machine takes {MEMORY_MIN >> 20} MB or more")
    return value


def cpu_millis_of(text: str) -> int:
    """Returns thousandths of a processor: "1.5". 0 of an empty text: no limit. Errors: `Invalid`."""
    if not text:
        return 0
    if (
        not re.fullmatch(r"\d{1,4}(\.\d{1,3})?", text)
        or (value := round(float(text) * 1000)) < CPU_MILLIS_MIN
    ):
        raise Invalid(f"--local-cpus {text}: it is a number of processors, as 2 or 0.5")
    return value


def host_environment(
    directory: PurePath, identifier: str, host: LocalHost, network: ipaddress.IPv4Network
) -> dict[str, str]:
    """Returns what `host.sh` is told."""
    shared = network_environment(directory, network)
    last = ipaddress.IPv4Address(host.address).packed
    return {
        "DIR": str(directory / "hosts" / identifier),
        "BASE": f"{host.image}/root",
        "NAME": host.name,
        "INIT": host.init,
        "LAN": shared["LAN"],
        "PORT": f"m{last[2]}-{last[3]}",
        "ADDRESS": host.address,
        "PREFIX": shared["PREFIX"],
        "GATEWAY": shared["GATEWAY"],
        "MAC": mac_of(host.address),
        "GROUP": f"skep-machines/{identifier}",
        "MEMORY": str(host.memory or ""),
        "CPU_MILLIS": str(host.cpu_millis or ""),
    }


def check_path(option: str, directory: str) -> None:
    """Errors: `Invalid` for one that is not whole, or that mount(8)'s options would be cut at."""
    if not re.fullmatch(r"/[\w./+@-]+", directory) or ".." in directory.split("/"):
        raise Invalid(f"--{option} {directory}: it is a whole path, without spaces, commas and colons")


def check_details(details: Details) -> Details:
    """Returns what a config.json says, which may be somebody else's: what is below its paths is removed, as
    root. Errors: `Invalid`."""
    check_path("local-directory", details.directory)
    check_path("local-base-directory", details.base_directory)
    if details.host and (not _HOST.fullmatch(details.host) or len(details.host) > HOST_LENGTH_MAX):
        raise Invalid(f"'{details.host[:80]}' is no local machine's host")
    return details


def check_filesystem(kind: str, directory: str) -> None:
    """Errors: `Unsupported` where a machine's files cannot be kept. `kind`: as stat(1) says it."""
    if kind in ("overlayfs", "nfs", "msdos", "exfat", "fuseblk"):
        raise Unsupported(
            f"{directory} is on {kind}, which cannot keep machines' files: name another --local-directory"
        )


def missing_packages(missing: Sequence[str]) -> str:
    """Returns what users are told where programs are not there."""
    packages = {"ip": "iproute2", "iptables": "iptables", "debootstrap": "debootstrap"}
    wanted = sorted({packages.get(each, "util-linux") for each in missing})
    return f"this host has no {', '.join(missing)}: apt-get install {' '.join(wanted)}"


def has_nameserver(resolv_conf: str) -> bool:
    """Returns whether it names one that a machine can ask as well."""
    return re.search(r"^nameserver\s+(?!127\.|::1)\S", resolv_conf, re.MULTILINE) is not None
