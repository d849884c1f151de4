"""The group `skep machine`, which loads the command that was chosen: most need nothing of SSH."""

from __future__ import annotations

import importlib

import click

from skep.runtime.importing import importing

_LOOKING = "skep.cli.machine.looking"
_CHANGING = "skep.cli.machine.changing"
_CONNECTING = "skep.cli.machine.connecting"
COMMANDS = {
    "config": f"{_CONNECTING}:config_command",
    "create": "skep.cli.machine.create:create_command",
    "env": f"{_CONNECTING}:env_command",
    "forget-host-key": f"{_CHANGING}:forget_host_key_command",
    "inspect": f"{_LOOKING}:inspect_command",
    "ip": f"{_LOOKING}:ip_command",
    "ls": f"{_LOOKING}:ls_command",
    "provision": f"{_CHANGING}:provision_command",
    "regenerate-certs": f"{_CHANGING}:regenerate_certs_command",
    "resize": "skep.cli.machine.resizing:resize_command",
    "rm": f"{_CHANGING}:rm_command",
    "ssh": f"{_CONNECTING}:ssh_command",
    "status": f"{_LOOKING}:status_command",
    "url": f"{_LOOKING}:url_command",
}


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Errors: `ImportError`."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        with importing():
            found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found


@click.group(cls=_Group)
def machine() -> None:
    """Makes hosts that you reach over SSH machines, whose Docker Engine you have by mutual TLS from then on.

    Machines are kept where docker-machine has them: ~/.docker/machine, or $MACHINE_STORAGE_PATH.
    """
