"""What is to be done to a host so that skepd runs there, in front of its engine: facts in, steps out.
Pure."""

from __future__ import annotations

import msgspec

from skep.machine.daemon_json import CA, CERT, KEY, SOCKET
from skep.machine.facts import MachineFacts
from skep.machine.plan import InstallPackages, SendLibraries, SendProgram, StartSkepd, Step, WriteFile
from skep.machine.unit import MARK
from skep.runtime.errors import Conflict, Unavailable, Unsupported
from skep.runtime.settings import DEFAULT_HOST

PYTHON_MIN = (3, 11)
FREE_KIB_MIN = 300 * 1024  # libraries have 135 MB; two releases' are there while one takes over
PLACE = "/usr/local/lib/skep"  # libraries/NAME, programs/NAME and bin; nothing else on a host is only skep's
CONFIG = "/etc/skep/skepd.toml"
UNIT, SCRIPT = "/etc/systemd/system/skepd.service", "/etc/init.d/skepd"
ROTATION = "/etc/logrotate.d/skepd"  # without systemd, whose journal bounds itself
_AS_PACKAGED = "/opt/skep/bin/skepd"  # where the unit and the script have it: docs/operations.md
_SERVICES = ("etcd",)  # that packages start, and skepd has no use for: it starts its own
_ROTATED = f"""{MARK}
/var/log/skepd.log {{
    size 10M
    rotate 5
    compress
    missingok
    notifempty
    copytruncate
}}
"""


def check_host(facts: MachineFacts) -> None:
    """Looks whether skepd can run there at all. Errors: `Unsupported`, `Conflict`."""
    if facts.architecture not in ("x86_64", "aarch64"):
        raise Unsupported(f"skep's libraries are there for x86_64 and aarch64, not for {facts.architecture}")
    if not facts.has_glibc:
        raise Unsupported(f"{facts.release} has another C library than glibc, which skep's libraries need")
    if facts.python and _version(facts.python) < PYTHON_MIN:
        raise Unsupported(f"{facts.release} has Python {facts.python}: skepd needs 3.11 or later")
    for path, text in ((CONFIG, facts.skepd_config), (UNIT, facts.skepd_unit), (SCRIPT, facts.skepd_script)):
        if text is not None and MARK not in text:
            raise Conflict(
                f"the host has a {path} that skep machine did not write: somebody else runs skepd there. Move"
                " it away if nobody needs it"
            )
    for where, free_kib in (("/usr/local", facts.local_free_kib), ("/var/lib", facts.free_kib)):
        if free_kib < FREE_KIB_MIN and not facts.skepd_libraries:
            raise Conflict(
                f"the host has {free_kib // 1024} MiB free in {where}: skepd takes {FREE_KIB_MIN // 1024}"
            )


def check_prepared(facts: MachineFacts) -> None:
    """Looks whether a host has what it lacked, once its packages are installed. Errors: `Unsupported`,
    `Conflict`, `Unavailable` where something is missing still."""
    check_host(facts)
    lacking = packages(facts)
    if lacking is not None and lacking.packages:
        raise Unavailable(
            f"its packages are installed, and the host still lacks {', '.join(lacking.packages)}"
        )


def check_no_skepd(facts: MachineFacts) -> None:
    """Looks whether an engine can have the port. Errors: `Conflict`."""
    if facts.skepd_config is not None and MARK in facts.skepd_config:
        raise Conflict(
            "skepd runs on the host, as skep machine had it: without --engine-only the machine has it. For a"
            f" plain engine stop skepd there, and remove {CONFIG}"
        )


def packages(facts: MachineFacts) -> InstallPackages | None:
    """Returns what skepd needs of the host's own packages, None where all is there. Errors: `Conflict` where
    nothing can be installed."""
    wanted = {
        "python3": bool(facts.python),
        "etcd-server": facts.has_etcd,
        "iproute2": facts.has_ip,
        "iptables": facts.has_iptables,
        "libnftables1": facts.has_libnftables,
    }
    missing = tuple(name for name, is_there in wanted.items() if not is_there)
    optional = () if facts.has_libbpf else ("libbpf1",)
    if not missing and (not optional or not facts.has_apt):
        return None
    if not facts.has_apt:
        raise Conflict(
            f"the host lacks {', '.join(missing)} (as Debian's packages are called), and has no apt-get, by"
            " which skep could install them"
        )
    kept_off = _SERVICES if "etcd-server" in missing else ()
    return InstallPackages("skepd's packages", missing, optional, kept_off)


def decide_skepd(
    facts: MachineFacts, port: int, libraries: str, program: str, unit: str, script: str
) -> tuple[Step, ...]:
    """Returns what has skepd run there, as of now and after a boot. `libraries` and `program`: what those
    that it is to run are called; `unit` and `script`: as they are packaged, for systemd and for init."""
    steps: list[Step] = []
    if libraries not in facts.skepd_libraries:
        steps.append(SendLibraries(libraries))
    if program not in facts.skepd_programs:
        steps.append(SendProgram(program))
    for name, module in (("skepd", "skep.daemon.main"), ("skep", "skep.cli.main")):
        text = _starter(facts.python_path, module, libraries, program)
        steps.append(WriteFile(f"{PLACE}/bin/{name}", text, 0o755))
    steps.append(WriteFile(CONFIG, _config(port), 0o644))
    command = f"{PLACE}/bin/skepd --config {CONFIG}"
    if facts.has_systemd:
        steps.append(WriteFile(UNIT, f"{MARK}\n{unit.replace(_AS_PACKAGED, command)}", 0o644))
    else:
        first, _, rest = script.partition("\n")
        text = f"{first}\n{MARK}\n{rest}".replace(f"DAEMON={_AS_PACKAGED}", f'DAEMON="{command}"')
        steps += [WriteFile(SCRIPT, text, 0o755), WriteFile(ROTATION, _ROTATED, 0o644)]
    steps.append(StartSkepd(facts.has_systemd, libraries, program))
    return tuple(steps)


def _starter(python: str, module: str, libraries: str, program: str) -> str:
    """Returns a program that knows what it is made of: nothing of the host's own Python is in between."""
    places = [f"{PLACE}/programs/{program}", f"{PLACE}/libraries/{libraries}"]
    lines = [
        f"#!{python} -IS",
        MARK,
        "import sys",
        "",
        f"sys.path[:0] = {places}",
        f"from {module} import main",
    ]
    return "\n".join([*lines, "", "main()", ""])


def _config(port: int) -> str:
    values: dict[str, object] = {
        "host": [DEFAULT_HOST, f"tcp://0.0.0.0:{port}"],
        "tlsverify": True,
        "tlscacert": CA,
        "tlscert": CERT,
        "tlskey": KEY,
        "engine": SOCKET,
    }
    # Texts and lists of texts are in TOML as they are in JSON.
    lines = [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in values.items()]
    return "\n".join([MARK, *lines, ""])


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
