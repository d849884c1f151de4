"""Machines for those who make hosts nodes by other means: Ansible's inventory, cloud-init's user data.
Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from skep.machine.record import Machine

# What a host needs of its own packages (docs/operations.md); etcd for the day when it is promoted.
_PACKAGES = ("docker.io", "python3-venv", "etcd-server", "iproute2", "iptables", "libnftables1", "libbpf1")


def ansible_lines(groups: Mapping[str, Sequence[Machine]]) -> list[str]:
    """Returns an inventory in YAML, of machines by the groups that they are in; empty groups are left out."""
    lines = ["all:", "  children:"]
    for group, machines in groups.items():
        if not machines:
            continue
        lines += [f"    {json.dumps(group)}:", "      hosts:"]
        for each in machines:
            lines.append(f"        {json.dumps(each.name)}:")
            lines += [f"          {name}: {json.dumps(value)}" for name, value in _variables(each).items()]
    return lines if len(lines) > 2 else ["all: {}"]


def _variables(machine: Machine) -> dict[str, object]:
    place = machine.ssh
    found: dict[str, object] = {
        "ansible_host": place.address,
        "ansible_user": place.user,
        "ansible_port": place.port,
    }
    if place.key:
        found["ansible_ssh_private_key_file"] = place.key
    return {**found, "docker_host": machine.url}


def cloud_init_lines(unit: str, requirement: str, token: str, managers: Sequence[str]) -> list[str]:
    """Returns user data for hosts that become workers at their first boot. `unit`: systemd's, as it is
    packaged; `requirement`: what pip installs there."""
    join = f"docker -H unix:///run/skep/skep.sock swarm join --token {token} {shlex.join(managers)}"
    commands = [
        "systemctl disable --now etcd || true",  # of the package's own: skepd starts its own where it manages
        "python3 -m venv /opt/skep",
        f"/opt/skep/bin/pip install {shlex.quote(requirement)}",
        "systemctl daemon-reload",
        "systemctl enable --now docker skepd",
        f"for _ in $(seq 60); do {join} && break; sleep 5; done",
    ]
    return [
        "#cloud-config",
        "# Who has this can join the swarm as a worker: docker swarm join-token --rotate worker ends that.",
        "package_update: true",
        "packages:",
        *(f"  - {each}" for each in _PACKAGES),
        "write_files:",
        "  - path: /etc/systemd/system/skepd.service",
        "    content: |",
        *(f"      {line}".rstrip() for line in unit.splitlines()),
        "runcmd:",
        *(f"  - {json.dumps(each)}" for each in commands),
    ]
