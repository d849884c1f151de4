"""`skep machine export` and `import`: a machine for a colleague, as one file that a passphrase seals; and
`adopt`, of docker-machine's directories."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from pathlib import Path

import click
import msgspec
from msgspec.structs import replace

from skep.cli.machine.maker import maker_of
from skep.cli.machine.user import for_each, organization, the_store, whole
from skep.machine import certs, exporting, renewal
from skep.machine.adopting import adopt, adopt_certificates, machines_in
from skep.machine.authority import authority, write_imported
from skep.machine.exporting import ExportedMachine
from skep.machine.names import expand_names
from skep.machine.record import to_config
from skep.machine.store import read_file, write_file
from skep.runtime.errors import Conflict, Invalid, NotFound, Unsupported

VARIABLE = "SKEP_EXPORT_PASSPHRASE"
_passphrase_file = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help=f"Its first line. [${VARIABLE}, or you are asked]",
)


@click.command("export")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--for", "whom", default="colleague", show_default=True, help="Who is to have it: for its name."
)
@_passphrase_file
def export_command(name: str, file: Path, whom: str, passphrase_file: Path | None) -> None:
    """Writes what a colleague needs to use a machine: where it is, whom to trust, and a certificate of their
    own. They cannot make certificates, nor provision it. The certificate is good for all of your machines,
    which have one CA."""
    store = the_store()
    machine = whole(store, name)
    if machine.driver == exporting.IMPORTED:
        raise Unsupported(f'"{name}" was imported: whoever has made it exports it')
    if renewal.stage(store) is not None:
        raise Conflict("the authority is being renewed: skep machine regenerate-certs --ca, and then export")
    if file.exists():
        raise Conflict(f"{file} is there already")
    passphrase = _passphrase(passphrase_file, new=True)
    own = authority(store, organization(), time.time())
    client = certs.new_client(own.ca, f"{whom} (by {organization()})", time.time())
    # What may be secret (a cloud's details, an engine's environment) is none of theirs.
    engine = replace(machine.engine, options=(), environment=())
    bare = replace(machine, details={}, engine=engine, ssh=replace(machine.ssh, key=""))
    exported = ExportedMachine(
        name=name,
        config=msgspec.Raw(to_config(bare, Path("/"))),
        trusted=own.trusted.decode(),
        certificate=client.certificate_pem.decode(),
        key=client.key_pem.decode(),
        host_key=" ".join((store.host_key(name) or "").split()[:2]),
    )
    salt, nonce = secrets.token_bytes(exporting.SALT_BYTES), secrets.token_bytes(exporting.NONCE_BYTES)
    write_file(file, exporting.seal(exported, passphrase, salt, nonce))
    click.echo(f"{file} has {name} for your colleague: skep machine import {file.name}. Who has it and its")
    click.echo(
        "passphrase is let in until the certificate ends, or the CA is another (regenerate-certs --ca):"
    )
    click.echo(
        "to all of your machines, where they can be reached, for one CA is all machines'; and is root there."
    )


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("name", required=False)
@_passphrase_file
def import_command(file: Path, name: str | None, passphrase_file: Path | None) -> None:
    """Adds a machine that a colleague has exported, under its name or another."""
    try:
        content = read_file(file)
    except FileNotFoundError as error:
        raise NotFound(f"there is no {file}") from error
    exported = exporting.open_sealed(content, _passphrase(passphrase_file, new=False))
    store = the_store()
    machine, client = exporting.imported(exported, name or exported.name)
    store.add(machine)
    write_imported(store, machine.name, exported.trusted.encode(), client)
    if exported.host_key:
        store.pin_host_key(machine.name, exported.host_key)
    asyncio.run(maker_of(click.echo).make_context(machine))
    click.echo(
        f"Imported {machine.name}: docker $(skep machine config {machine.name}) info. To provision it, to"
        " make certificates and to switch it off is its owner's; ssh and scp need a key that its host takes"
    )


def _passphrase(file: Path | None, *, new: bool) -> str:
    """Errors: `Invalid`."""
    if file is not None:
        try:
            return read_file(file).decode(errors="replace").split("\n")[0].rstrip("\r")
        except FileNotFoundError as error:
            raise Invalid(f"there is no {file}") from error
    if VARIABLE in os.environ:
        return os.environ[VARIABLE]
    return str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True))


@click.command("adopt")
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("names", nargs=-1)
def adopt_command(directory: Path, names: tuple[str, ...]) -> None:
    """Copies machines out of another directory of docker-machine's, all or those that are named. Those in
    ~/.docker/machine are yours already."""
    store, other = the_store(), machines_in(directory)
    if said := adopt_certificates(store, other):
        click.echo(said)

    async def one(name: str) -> str:
        machine = adopt(store, other, name)
        await maker_of(click.echo).make_context(machine)
        key = "" if machine.ssh.key else ", by your own SSH keys"
        return f"{name} is yours{key}: skep machine provision {name} gives it certificates of this CA"

    for_each(expand_names(names) or other.names(), one, lambda _, line: click.echo(line))
