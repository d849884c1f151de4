"""A host's engine is brought to the newest version that the host's own sources of packages have."""

from __future__ import annotations

from msgspec import Struct

from skep.machine.drivers import Say
from skep.machine.ssh import SshHost
from skep.runtime.errors import Invalid, Unavailable, Unsupported
from skep.runtime.texts import printable

UPGRADE_S = 900.0  # as an installation
PACKAGES_MAX = 20  # that are known are nine
TEXT_BYTES_MAX = 100  # of a package's name or version, as it is shown
_NO_PACKAGE = 3
# Those of Debian and Ubuntu, and those of Docker's own repository. Of them those that are there are upgraded,
# none is removed. As with an installation, it goes on to its end whoever listens.
UPGRADE = """
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive
log=$(mktemp) || exit
trap 'rm -f "$log"' EXIT
apt() {
    apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef \\
        -o Dpkg::Options::=--force-confold "$@" </dev/null >"$log" 2>&1 && return
    tail -n 20 "$log" >&2
    exit 1
}
versions() {
    for each in $packages; do dpkg-query -W -f "$1 \\${Package} \\${Version}\\n" "$each"; done
}
dockerd=$(command -v dockerd) && command -v apt-get >/dev/null || exit 3
dpkg -S "$(readlink -f "$dockerd")" >/dev/null 2>&1 || dpkg -S "$dockerd" >/dev/null 2>&1 || exit 3
packages=
for each in docker.io docker-cli containerd runc \\
    docker-ce docker-ce-cli containerd.io docker-buildx-plugin docker-compose-plugin; do
    case "$(dpkg-query -W -f '${db:Status-Status}' "$each" 2>/dev/null)" in
    installed) packages="$packages $each" ;;
    esac
done
[ -n "$packages" ] || exit 3
versions before
apt update
apt install -y --only-upgrade --no-remove --no-install-recommends $packages
versions after
"""


class PackageChange(Struct, frozen=True):
    """A package's version before and after."""

    name: str
    before: str
    after: str


async def upgrade_engine(host: SshHost, say: Say) -> list[PackageChange]:
    """Returns which of the engine's packages are newer now. Its service is restarted by them.

    Errors: `Unsupported` where the engine is of no package, `Unavailable`, with what the host says.
    """
    say("Upgrading Docker...")
    done = await host.run_root(UPGRADE, timeout_s=UPGRADE_S)
    if done.status == _NO_PACKAGE:
        raise Unsupported(
            "the host's dockerd is of no package of apt's: it is upgraded as it was installed, and then"
            " provisioned (skep machine provision)"
        )
    if done.status != 0:
        raise Unavailable(f"Docker cannot be upgraded: {done.said or f'status {done.status}'}")
    return read_changes(done.text)


def read_changes(text: str) -> list[PackageChange]:
    """Returns what is newer, by what the script has printed. Errors: `Invalid`. Pure."""
    seen: dict[str, dict[str, str]] = {"before": {}, "after": {}}
    for line in text.split("\n"):
        when, _, rest = line.partition(" ")
        name, _, version = rest.partition(" ")
        if when in seen and name and version and len(seen[when]) < PACKAGES_MAX:
            seen[when][printable(name, TEXT_BYTES_MAX)] = printable(version, TEXT_BYTES_MAX)
    if not seen["after"]:
        raise Invalid("the host does not say which versions of its packages it has now")
    return [
        PackageChange(name, seen["before"][name], version)
        for name, version in seen["after"].items()
        if seen["before"].get(name, version) != version
    ]
