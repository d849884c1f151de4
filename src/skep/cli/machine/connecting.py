"""`skep machine config` and `env`: which machine a docker client has."""

from __future__ import annotations

import os
import shlex

import click

from skep.cli.machine.user import the_store, whole
from skep.machine import shells
from skep.runtime.errors import Invalid


@click.command("config")
@click.argument("name")
def config_command(name: str) -> None:
    """Prints the options of a docker client for the machine: docker $(skep machine config NAME) info."""
    store = the_store()
    machine = whole(store, name)
    directory = store.directory(name)
    words = ["--tlsverify"]
    for option, file in (("tlscacert", "ca.pem"), ("tlscert", "cert.pem"), ("tlskey", "key.pem")):
        words.append(f"--{option}={directory / file}")
    words.append(f"-H={machine.url}")
    # $(…) is cut at spaces, and takes quotes as they are.
    if any(shlex.quote(each) != each and any(c.isspace() or c in "*?[" for c in each) for each in words):
        raise Invalid(
            f"a shell would take {directory} apart: use the environment (skep machine env {name}), or set"
            " MACHINE_STORAGE_PATH to a path without spaces"
        )
    click.echo(" ".join(words))


@click.command("env")
@click.argument("name", required=False)
@click.option("--shell", type=click.Choice(shells.SHELLS), help="[as $SHELL says]")
@click.option("--unset", "-u", is_flag=True, help="Take the variables back.")
@click.option("--no-proxy", is_flag=True, help="And have the machine reached without a proxy.")
def env_command(name: str | None, shell: str | None, unset: bool, no_proxy: bool) -> None:
    """Prints what sets a docker client's environment: eval "$(skep machine env NAME)"."""
    shell = shell or shells.shell_of(os.environ.get("SHELL", ""))
    own = f"skep machine env{' --shell ' + shell if shell not in ('sh', 'bash', 'zsh') else ''}"
    own += " --no-proxy" * no_proxy
    store = the_store()
    if unset:
        for line in shells.unset_lines(shell, shells.VARIABLES):
            click.echo(line)
        name = name or os.environ.get("DOCKER_MACHINE_NAME")
        if no_proxy and name:
            proxies = dict([shells.no_proxy(os.environ, store.load(name).ssh.address, unset=True)])
            for line in shells.set_lines(shell, proxies):
                click.echo(line)
        for line in shells.hint(shell, f"{own} --unset"):
            click.echo(line)
        return
    if name is None:
        raise click.UsageError("Missing argument 'NAME'.")
    machine = whole(store, name)
    values = dict(zip(shells.VARIABLES, ("1", machine.url, str(store.directory(name)), name), strict=True))
    if no_proxy:
        values.update([shells.no_proxy(os.environ, machine.ssh.address, unset=False)])
    for line in (*shells.set_lines(shell, values), *shells.hint(shell, f"{own} {name}")):
        click.echo(line)
