"""What a host has: a script that says it, and what was said, read. Pure.

Nothing on the host is changed. Files come in base64, so that no content of theirs can be taken for another
line.
"""

from __future__ import annotations

import base64
import binascii
import re

from msgspec import Struct

from skep.runtime.errors import Invalid
from skep.runtime.texts import printable

NAME_BYTES_MAX = 100  # of a release, as it is shown
FILE_BYTES_MAX = 65536  # a daemon.json or unit has some hundred bytes
_RELEASE = re.compile(r'^(ID|ID_LIKE|VERSION_ID|PRETTY_NAME)=["\']?([^"\'\n]*)["\']?$', re.MULTILINE)
_ARCHITECTURE = re.compile(r"[a-zA-Z0-9_-]{1,40}")
_PYTHON = re.compile(r"3\.[0-9]{1,3}")
_PATH = re.compile(r"/[a-zA-Z0-9._/-]{1,200}")

PROBE = f"""
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
file() {{ [ ! -e "$2" ] || echo "$1 $(head -c {FILE_BYTES_MAX + 1} "$2" | base64 -w 0)"; }}
echo "uid $(id -u)"
echo "host_name $(hostname)"
echo "clock_s $(date +%s)"
echo "free_kib $(df -Pk /var/lib | awk 'NR == 2 {{ print $4 }}')"
file release /etc/os-release
[ ! -d /run/systemd/system ] || echo "systemd yes"
[ ! -x /etc/init.d/docker ] || echo "init_script yes"
! command -v apt-get >/dev/null || echo "apt yes"
echo "dockerd $(command -v dockerd)"
echo "client $(command -v docker)"
file daemon_json /etc/docker/daemon.json
file default_docker /etc/default/docker
file drop_in /etc/systemd/system/docker.service.d/10-skep-machine.conf
file ca /etc/docker/ca.pem
file skepd_config /etc/skep/skepd.toml
file skepd_unit /etc/systemd/system/skepd.service
file skepd_script /etc/init.d/skepd
echo "architecture $(uname -m)"
! getconf GNU_LIBC_VERSION >/dev/null 2>&1 || echo "glibc yes"
python=/usr/bin/python3
[ -x $python ] || python=$(command -v python3)
echo "python_path $python"
echo "python $("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"
for each in etcd ip iptables; do ! command -v $each >/dev/null || echo "$each yes"; done
for each in libnftables libbpf; do ! ldconfig -p | grep -qF "$each.so.1 " || echo "$each yes"; done
echo "skepd_libraries $(ls /usr/local/lib/skep/libraries 2>/dev/null | head -n 50 | tr '\n' ' ')"
echo "skepd_programs $(ls /usr/local/lib/skep/programs 2>/dev/null | head -n 50 | tr '\n' ' ')"
[ ! -d /run/systemd/system ] ||
    echo "unit $(systemctl cat docker.service 2>/dev/null | head -c {FILE_BYTES_MAX + 1} | base64 -w 0)"
echo "end"
"""


class MachineFacts(Struct, frozen=True, kw_only=True):
    """`release_ids`: the host's distribution and those it is like. Texts of files are None where there is
    none."""

    host_name: str
    release: str
    release_ids: tuple[str, ...]
    clock_s: float
    free_kib: int
    has_systemd: bool = False
    has_init_script: bool = False
    has_apt: bool = False
    dockerd: str = ""
    client: str = ""
    daemon_json: str | None = None
    default_docker: str | None = None
    drop_in: str | None = None
    unit: str | None = None
    ca: str | None = None
    architecture: str = ""
    has_glibc: bool = False
    python: str = ""
    python_path: str = ""
    has_etcd: bool = False
    has_ip: bool = False
    has_iptables: bool = False
    has_libnftables: bool = False
    has_libbpf: bool = False
    skepd_config: str | None = None
    skepd_unit: str | None = None
    skepd_script: str | None = None
    skepd_libraries: tuple[str, ...] = ()
    skepd_programs: tuple[str, ...] = ()

    @property
    def manager(self) -> str:
        """Returns what starts services there, as the provisioner names it."""
        return "systemd" if self.has_systemd else "init"


def read_facts(text: str) -> MachineFacts:
    """Returns what `PROBE` has printed. Errors: `Invalid`, also where the script did not come to its end."""
    said = dict(line.partition(" ")[::2] for line in text.splitlines())
    if "end" not in said:
        raise Invalid("the host did not say what it has: is its shell a POSIX one?")
    if said.get("uid") != "0":
        raise Invalid("the user is not root there, and sudo does not make it root")
    names = (
        *("release", "daemon_json", "default_docker", "drop_in", "unit", "ca"),
        *("skepd_config", "skepd_unit", "skepd_script"),
    )
    files = {name: _decoded(name, said.get(name)) for name in names}
    release = dict(_RELEASE.findall(files["release"] or ""))
    ids = (release.get("ID", ""), *release.get("ID_LIKE", "").split())
    return MachineFacts(
        host_name=said.get("host_name", ""),
        release=printable(release.get("PRETTY_NAME", "") or release.get("ID", ""), NAME_BYTES_MAX)
        or "a host without /etc/os-release",
        release_ids=tuple(each for each in ids if each),
        clock_s=float(_number(said, "clock_s")),
        free_kib=_number(said, "free_kib"),
        has_systemd="systemd" in said,
        has_init_script="init_script" in said,
        has_apt="apt" in said,
        dockerd=said.get("dockerd", ""),
        client=said.get("client", ""),
        daemon_json=files["daemon_json"],
        default_docker=files["default_docker"],
        drop_in=files["drop_in"],
        unit=files["unit"] or None,
        ca=files["ca"],
        architecture=_matching(said, "architecture", _ARCHITECTURE),
        has_glibc="glibc" in said,
        python=_matching(said, "python", _PYTHON),
        python_path=_matching(said, "python_path", _PATH),
        has_etcd="etcd" in said,
        has_ip="ip" in said,
        has_iptables="iptables" in said,
        has_libnftables="libnftables" in said,
        has_libbpf="libbpf" in said,
        skepd_config=files["skepd_config"],
        skepd_unit=files["skepd_unit"],
        skepd_script=files["skepd_script"],
        skepd_libraries=tuple(said.get("skepd_libraries", "").split()),
        skepd_programs=tuple(said.get("skepd_programs", "").split()),
    )


def _matching(said: dict[str, str], name: str, form: re.Pattern[str]) -> str:
    """Returns what was said, empty where it is none of those: it goes into a script of ours."""
    value = said.get(name, "")
    return value if form.fullmatch(value) else ""


def _number(said: dict[str, str], name: str) -> int:
    value = said.get(name, "")
    if not value.isdecimal() or len(value) > 18:
        raise Invalid(f"the host says a {name} of '{value[:40]}'")
    return int(value)


def _decoded(name: str, encoded: str | None) -> str | None:
    if encoded is None:
        return None
    try:
        content = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise Invalid(f"the host's {name} cannot be read: {error}") from error
    if len(content) > FILE_BYTES_MAX:
        raise Invalid(f"the host's {name} has more than {FILE_BYTES_MAX} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:  # what is written back would be another text
        raise Invalid(f"the host's {name} is not in UTF-8") from error
