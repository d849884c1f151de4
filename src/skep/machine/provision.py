"""Makes a host a machine: asks it what it has, has `plan` decide, carries that out. Can be run again at any
time."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from skep.machine import certs, daemon_json, plan
from skep.machine.authority import authority, own_ca, write_certificates
from skep.machine.certs import Pair
from skep.machine.facts import PROBE, MachineFacts, read_facts
from skep.machine.plan import InstallEngine, RestartEngine, SetHostName, Step, WriteFile
from skep.machine.record import Machine
from skep.machine.ssh import SshHost, connected, last_lines, wait_reachable
from skep.machine.store import MachineStore
from skep.runtime.errors import Unavailable

Say = Callable[[str], None]

INSTALL_S = 900.0  # packages of 60 MB over a slow line, and another apt that is waited for
START_S = 150.0  # systemd gives units 90 s to stop; an engine with many containers takes some of that
CLOCK_S = 60.0  # what a host's clock may differ before it is said; certificates allow for an hour
_SBIN = 'export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"; '

# Nothing of the host's goes for it: docker.io conflicts with docker-ce-cli, containerd with containerd.io.
# It writes to a file, and so goes on to its end where the connection is lost: packages that are installed by
# half would be taken for an engine.
_INSTALL = """
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp) || exit
apt() {{
    apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef \\
        -o Dpkg::Options::=--force-confold "$@" </dev/null >"$log" 2>&1 && return
    tail -n 20 "$log" >&2
    rm -f "$log"
    exit 1
}}
apt update
more=
for package in {optional}; do
    [ -z "$(apt-cache madison "$package" 2>/dev/null)" ] || more="$more $package"
done
apt install -y --no-remove --no-install-recommends {packages} $more
rm -f "$log"
"""
_BY_SYSTEMD = """
systemctl daemon-reload && systemctl --quiet enable docker.service && systemctl restart docker.service && exit
journalctl --no-pager --output cat -n 50 -u docker.service -t dockerd |
    grep -v level=info | grep -i -e fail -e error -e unable | tail -n 3 >&2
exit 1
"""
# Whoever is not started by the script is not stopped by it, either; two engines on one directory harm it.
_BY_SCRIPT = """
engine() {
    pid=$(cat /var/run/docker.pid 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]
}
/etc/init.d/docker stop >/dev/null 2>&1
for _ in $(seq 50); do engine || break; sleep 0.1; done
if engine; then
    echo "an engine (process $pid) runs that /etc/init.d/docker has not started: stop it" >&2
    exit 1
fi
/etc/init.d/docker start </dev/null
"""
# Its length says whether all of it came. Whoever else writes the file has a new one of their own.
_WRITE = """
umask 077
mkdir -p -m 755 {directory} && to={path} || exit
{place}
new=$(mktemp "$to.XXXXXX") || exit
trap 'rm -f "$new"' EXIT
{own} && cat >"$new" && [ $(wc -c <"$new") = {length} ] && sync "$new" && mv "$new" "$to"
"""
_PLACE = '[ ! -e "$to" ] || to=$(readlink -f "$to") || exit'
_OWN = 'if [ -e "$to" ]; then cp -p "$to" "$new"; else chmod 644 "$new"; fi'
_RUNS = """
if [ -d /run/systemd/system ]; then systemctl is-active --quiet docker.service
else kill -0 "$(cat /var/run/docker-ssd.pid)" 2>/dev/null; fi
"""
_WHY = """
if [ -d /run/systemd/system ]; then journalctl --no-pager --output cat -n 50 -u docker.service -t dockerd
else tail -n 50 /var/log/docker.log; fi 2>/dev/null |
    grep -v level=info | grep -i -e fail -e error -e unable | tail -n 3
"""


async def provision(store: MachineStore, machine: Machine, organization: str, now: float, say: Say) -> None:
    """Makes the host have an engine that listens by mutual TLS, and the machine have what clients need.

    What contradicts it on the host is said before anything is changed there. Errors: `Denied` (not let in,
    another host key), `Conflict`, `Unsupported`, `Invalid`, `Unavailable`.
    """
    say("Waiting for SSH to be available...")
    pinned = store.host_key(machine.name)
    await wait_reachable(machine.ssh, pinned, say)
    async with connected(machine.ssh, pinned) as host:
        if pinned is None:
            store.pin_host_key(machine.name, host.host_key)
            say(f"The host's SSH key is {host.fingerprint}: no other is taken from now on")
        say("Detecting the provisioner...")
        facts = await ask(host)
        _say_clock(facts, now, say)
        if not machine.is_whole:
            plan.check_authority(facts, own_ca(store))
        preparation = plan.decide_preparation(facts, machine.name)
        if facts.dockerd:
            plan.decide_configuration(facts, machine.engine)
        say(f"Provisioning with {_provisioner(facts)}({facts.manager})...")
        for step in preparation:
            await carry_out(host, step, say)
        if any(isinstance(step, InstallEngine) for step in preparation):
            facts = await ask(host)
        configuration = plan.decide_configuration(facts, machine.engine)
        await _give_certificates(host, store, machine, organization, now, say)
        say("Setting Docker configuration on the remote daemon...")
        for step in configuration:
            await carry_out(host, step, say)


async def ask(host: SshHost) -> MachineFacts:
    """Errors: `Invalid`, `Unavailable`."""
    said = await host.run_root(PROBE)
    if said.status != 0:
        raise Unavailable(f"the host does not say what it has: {said.said}")
    return read_facts(said.text)


async def engine_runs(host: SshHost) -> bool:
    """False where the process that was started has ended. Errors: `Unavailable`."""
    return (await host.run_root(_RUNS)).status == 0


async def why_engine_fails(host: SshHost) -> str:
    """Returns the last of what the engine complained of; empty where it did not. Errors: `Unavailable`."""
    found = await host.run_root(_WHY)
    return last_lines(found.text)


async def carry_out(host: SshHost, step: Step, say: Say) -> None:
    """Errors: `Unavailable`, with what the host said."""
    if isinstance(step, SetHostName):
        await _must(host, _host_name(step.name), "its host name cannot be set")
    elif isinstance(step, InstallEngine):
        say("Installing Docker...")
        await _must(host, install_script(step), "Docker cannot be installed", timeout_s=INSTALL_S)
    elif isinstance(step, WriteFile):
        await _write(host, step.path, step.content.encode())
    elif isinstance(step, RestartEngine):
        script = _BY_SYSTEMD if step.by_systemd else _BY_SCRIPT
        await _must(host, script, "the engine does not start", timeout_s=START_S)


def install_script(step: InstallEngine) -> str:
    """Returns what installs it there, or fails where something else would have to go."""
    return _INSTALL.format(packages=" ".join(step.packages), optional=" ".join(step.optional))


async def _give_certificates(
    host: SshHost, store: MachineStore, machine: Machine, organization: str, now: float, say: Say
) -> None:
    say("Copying certs to the local machine directory...")
    ca, client = authority(store, organization, now)
    names = certs.server_names(machine.ssh.address, machine.engine.tls_sans)
    server = certs.new_server(ca, organization, names, now)
    write_certificates(store, machine.name, ca, client, server)
    say("Copying certs to the remote machine...")
    await _write_server(host, ca, server)


async def _write_server(host: SshHost, ca: Pair, server: Pair) -> None:
    await _write(host, daemon_json.KEY, server.key_pem, mode=0o600)
    await _write(host, daemon_json.CERT, server.certificate_pem, mode=0o644)
    await _write(host, daemon_json.CA, ca.certificate_pem, mode=0o644)


def write_script(path: str, length: int, mode: int | None = None) -> str:
    """Returns what makes its input, of `length` bytes, the file: whole or not at all.

    Without a mode, one that is there keeps its own, its owner, and where it is, if the path is a link; a new
    one is everybody's to read.
    """
    return _WRITE.format(
        path=shlex.quote(path),
        directory=shlex.quote(path.rpartition("/")[0]),
        length=length,
        place=_PLACE if mode is None else "",
        own=_OWN if mode is None else f'chmod {mode:o} "$new"',
    )


async def _write(host: SshHost, path: str, content: bytes, mode: int | None = None) -> None:
    """Writes a file of the host, as `write_script` says. Errors: `Unavailable`."""
    script = write_script(path, len(content), mode)
    await _must(host, script, f"{path} cannot be written on the host", data=content)


async def _must(
    host: SshHost, script: str, failing: str, *, data: bytes = b"", timeout_s: float = 60.0
) -> None:
    done = await host.run_root(_SBIN + script, data=data, timeout_s=timeout_s)
    if done.status != 0:
        raise Unavailable(f"{failing}: {done.said or f'status {done.status}, and it says nothing'}")


def _host_name(name: str) -> str:
    quoted, whole = shlex.quote(name), shlex.quote(rf"[[:space:]]{re.escape(name)}([[:space:]]|$)")
    return (
        f"hostname {quoted} && echo {quoted} >/etc/hostname &&"
        f" {{ grep -qE -- {whole} /etc/hosts || echo 127.0.1.1 {quoted} >>/etc/hosts; }}"
    )


def _provisioner(facts: MachineFacts) -> str:
    """Returns the name of what the host is; one that has its engine already may be any."""
    return next((each for each in facts.release_ids if each in plan.RECOGNISED), "") or facts.release


def _say_clock(facts: MachineFacts, now: float, say: Say) -> None:
    off_s = facts.clock_s - now
    if abs(off_s) > CLOCK_S:
        say(
            f"the host's clock is {abs(off_s):.0f} s {'ahead' if off_s > 0 else 'behind'}:"
            " certificates depend on it"
        )
