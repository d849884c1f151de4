"""The group `skep machine`, which loads the command that was chosen: most need nothing of SSH."""

from __future__ import annotations

import click

from skep.cli.lazy import LazyGroup

_LOOKING = "skep.cli.machine.looking"
_CHANGING = "skep.cli.machine.changing"
_CONNECTING = "skep.cli.machine.connecting"
_REACHING = "skep.cli.machine.reaching"
_POWER = "skep.cli.machine.power"
COMMANDS = {
    "active": f"{_LOOKING}:active_command",
    "adopt": "skep.cli.machine.sharing:adopt_command",
    "config": f"{_CONNECTING}:config_command",
    "cloud-init": "skep.cli.machine.inventory:cloud_init_command",
    "create": "skep.cli.machine.create:create_command",
    "env": f"{_CONNECTING}:env_command",
    "export": "skep.cli.machine.sharing:export_command",
    "forget-host-key": f"{_CHANGING}:forget_host_key_command",
    "import": "skep.cli.machine.sharing:import_command",
    "inspect": f"{_LOOKING}:inspect_command",
    "ip": f"{_LOOKING}:ip_command",
    "join": "skep.cli.machine.joining:join_command",
    "kill": f"{_POWER}:kill_command",
    "ls": f"{_LOOKING}:ls_command",
    "mount": f"{_REACHING}:mount_command",
    "provision": f"{_CHANGING}:provision_command",
    "regenerate-certs": "skep.cli.machine.renewing:regenerate_certs_command",
    "restart": f"{_POWER}:restart_command",
    "resize": "skep.cli.machine.resizing:resize_command",
    "rm": f"{_CHANGING}:rm_command",
    "scp": f"{_REACHING}:scp_command",
    "ssh": f"{_REACHING}:ssh_command",
    "start": f"{_POWER}:start_command",
    "status": f"{_LOOKING}:status_command",
    "stop": f"{_POWER}:stop_command",
    "upgrade": f"{_CHANGING}:upgrade_command",
    "url": f"{_LOOKING}:url_command",
    "version": f"{_LOOKING}:version_command",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def machine() -> None:
    """Makes hosts that you reach over SSH machines, whose Docker Engine you have by mutual TLS from then on.

    Machines are kept where docker-machine has them: ~/.docker/machine, or $MACHINE_STORAGE_PATH.
    """
