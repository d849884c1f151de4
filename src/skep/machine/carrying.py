"""Carries out on a host what was decided: the steps of `plan`, each by a script."""

from __future__ import annotations

import re
import shlex

from skep.machine.drivers import Say
from skep.machine.plan import (
    InstallByScript,
    InstallPackages,
    RemoveFile,
    SetHostName,
    StartEngine,
    Step,
    WriteFile,
)
from skep.machine.remote import must, write
from skep.machine.ssh import SshHost

INSTALL_S = 900.0  # packages of 60 MB over a slow line, and another apt that is waited for
START_S = 150.0  # systemd gives units 90 s to stop; an engine with many containers takes some of that

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
# The first boot of a cloud's image installs packages of its own; `apt update` does not wait for another's.
! command -v cloud-init >/dev/null || timeout 300 cloud-init status --wait >/dev/null 2>&1 </dev/null
kept_off=
for service in {kept_off}; do # one that is there already is somebody's own
    if [ -d /run/systemd/system ]; then systemctl cat $service.service >/dev/null 2>&1
    else [ -e "/etc/init.d/$service" ]; fi || kept_off="$kept_off $service"
done
apt update
more=
for package in {optional}; do
    [ -z "$(apt-cache madison "$package" 2>/dev/null)" ] || more="$more $package"
done
apt install -y --no-remove --no-install-recommends {packages} $more
rm -f "$log"
for service in $kept_off; do
    if [ -d /run/systemd/system ]; then systemctl --quiet disable --now $service
    else "/etc/init.d/$service" stop; update-rc.d "$service" disable; fi >/dev/null 2>&1
done
:
"""
_BY_URL = """
set -e
script=$(mktemp)
trap 'rm -f "$script" "$script.log"' EXIT
if command -v curl >/dev/null; then curl -fsSL --proto '=https' --max-time 60 -o "$script" {url}
elif command -v wget >/dev/null; then wget -q --https-only --timeout 60 -O "$script" {url}
else echo "the host has neither curl nor wget" >&2; exit 1; fi
[ -s "$script" ]
sh "$script" </dev/null >"$script.log" 2>&1 || {{ tail -n 20 "$script.log" >&2; exit 1; }}
command -v dockerd >/dev/null || {{ echo "the script has ended, and there is no dockerd" >&2; exit 1; }}
"""
# An engine that listened by itself where systemd does has taken systemd's socket away with it.
_BY_SYSTEMD = """
systemctl daemon-reload && systemctl --quiet enable docker.service && systemctl {verb} docker.service &&
    if [ ! -S /var/run/docker.sock ] && systemctl --quiet is-active docker.socket; then
        systemctl stop docker.service docker.socket && systemctl start docker.socket docker.service
    fi && exit
journalctl --no-pager --output cat -n 50 -u docker.service -t dockerd |
    grep -v level=info | grep -i -e fail -e error -e unable | tail -n 3 >&2
systemctl reset-failed docker.service # whoever starts it next is not told that it was too often
exit 1
"""
# Whoever is not started by the script is not stopped by it, either; two engines on one directory harm it.
_BY_SCRIPT = """
engine() {{
    pid=$(cat /var/run/docker.pid 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]
}}
[ {verb} = restart ] || ! engine || exit 0
/etc/init.d/docker stop >/dev/null 2>&1
for _ in $(seq 50); do engine || break; sleep 0.1; done
if engine; then
    echo "an engine (process $pid) runs that /etc/init.d/docker has not started: stop it" >&2
    exit 1
fi
log=/var/log/docker.log
before=$(wc -c <$log 2>/dev/null)
/etc/init.d/docker start </dev/null || exit
# Nothing there says how that goes on: what the engine does not take ends it a moment later. One that has much
# to do first is waited for by who asks it. What it has written since says why.
answers() {{
    if command -v docker >/dev/null; then timeout 5 docker -H unix:///var/run/docker.sock version
    elif command -v curl >/dev/null; then curl -fsS --max-time 5 --unix-socket /var/run/docker.sock http://docker/_ping
    else [ "$1" -gt 10 ]; fi >/dev/null 2>&1
}}
for at in $(seq 100); do
    sleep 0.3
    answers "$at" && exit 0
    grep -qsF dockerd "/proc/$(cat /var/run/docker-ssd.pid 2>/dev/null)/cmdline" || [ "$at" -lt 5 ] || {{
        tail -c "+$((${{before:-0}} + 1))" $log |
            grep -v level=info | grep -i -e fail -e error -e unable | tail -n 3 >&2
        exit 1
    }}
done
"""


async def carry_out(host: SshHost, step: Step, say: Say) -> None:
    """Errors: `Unavailable`, with what the host said."""
    if isinstance(step, SetHostName):
        await must(host, _host_name(step.name), "its host name cannot be set")
    elif isinstance(step, InstallPackages):
        say(f"Installing {step.what}...")
        await must(host, install_script(step), f"{step.what} cannot be installed", timeout_s=INSTALL_S)
    elif isinstance(step, InstallByScript):
        say(f"Installing Docker by {step.url}...")
        await must(host, by_url_script(step.url), "Docker cannot be installed", timeout_s=INSTALL_S)
    elif isinstance(step, WriteFile):
        await write(host, step.path, step.content.encode(), step.mode)
    elif isinstance(step, RemoveFile):
        await must(host, f"rm -f {shlex.quote(step.path)}", f"{step.path} cannot be removed")
    elif isinstance(step, StartEngine):
        script = (_BY_SYSTEMD if step.by_systemd else _BY_SCRIPT).format(
            verb="restart" if step.anew else "start"
        )
        await must(host, script, "the engine does not start", timeout_s=START_S)
    else:
        raise AssertionError(f"{step}: `skepd_install` does it")


def by_url_script(url: str) -> str:
    """Returns what fetches a script there, whole, and runs it."""
    return _BY_URL.format(url=shlex.quote(url))


def install_script(step: InstallPackages) -> str:
    """Returns what installs it there, or fails where something else would have to go."""
    return _INSTALL.format(
        packages=" ".join(step.packages), optional=" ".join(step.optional), kept_off=" ".join(step.kept_off)
    )


def _host_name(name: str) -> str:
    quoted, whole = shlex.quote(name), shlex.quote(rf"[[:space:]]{re.escape(name)}([[:space:]]|$)")
    return (
        f"hostname {quoted} && echo {quoted} >/etc/hostname &&"
        f" {{ grep -qE -- {whole} /etc/hosts || echo 127.0.1.1 {quoted} >>/etc/hosts; }}"
    )
