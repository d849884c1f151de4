"""`skep monitor influx`: the swarm's numbers into InfluxDB, without a Telegraf."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import click
from msgspec import Struct

from skep.cli.durations import Duration
from skep.cli.swarm_options import gathers
from skep.client.api import default_host
from skep.monitor.influx.feed import FeedPace, InfluxFeed
from skep.monitor.influx.sink import InfluxSink
from skep.monitor.influx.target import Target, v1_target, v2_target, v3_target
from skep.monitor.influx.waiting import BUFFER_BYTES, WriteBuffer
from skep.monitor.swarm_reader import SwarmReader
from skep.runtime.clock import SystemClock
from skep.runtime.errors import Invalid
from skep.runtime.log import get_logger, set_up_logging

TOKEN, PASSWORD = "SKEP_INFLUX_TOKEN", "SKEP_INFLUX_PASSWORD"
SECRET_MAX_BYTES = 8192  # of a header most servers take no more
MIB = 1 << 20

log = get_logger()


class FeedSource(Struct, frozen=True):
    """What of the command line is about the swarm."""

    hosts: tuple[str, ...]
    timeout_s: float
    with_usage: bool


class FeedTarget(Struct, frozen=True):
    """What of the command line is about the database."""

    target: Target
    secret: Callable[[], str]
    creates: bool
    ca: Path | None
    buffer_bytes: int


@click.command("influx")
@click.option(
    "--url", required=True, envvar="SKEP_INFLUX_URL", show_envvar=True, help="http://HOST:8086 or https://…"
)
@click.option(
    "--v1", metavar="DB", envvar="SKEP_INFLUX_V1", show_envvar=True, help="InfluxDB 1, or VictoriaMetrics."
)
@click.option("--v2", metavar="ORG/BUCKET", envvar="SKEP_INFLUX_V2", show_envvar=True, help="InfluxDB 2.")
@click.option("--v3", metavar="DB", envvar="SKEP_INFLUX_V3", show_envvar=True, help="InfluxDB 3.")
@click.option("--user", envvar="SKEP_INFLUX_USER", show_envvar=True, help="Who writes, with --v1.")
@click.option("--create", is_flag=True, help="Make the database where it is missing, with --v1.")
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="SKEP_INFLUX_CA",
    show_envvar=True,
    help="The authority that an https server's certificate is of, where it is your own.",
)
@click.option("--interval", type=Duration(1.0), default="10s", show_default=True, help="Between gathers.")
@click.option(
    "--buffer-mib",
    type=click.IntRange(1, 4096),
    default=BUFFER_BYTES // MIB,
    show_default=True,
    help="MiB, compressed, of what may wait for a database that is away; the oldest goes first.",
)
@gathers
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]), default="auto", show_default=True)
def influx_command(
    url: str,
    v1: str | None,
    v2: str | None,
    v3: str | None,
    user: str | None,
    create: bool,
    ca: Path | None,
    interval: float,
    buffer_mib: int,
    hosts: tuple[str, ...],
    timeout: float,
    usage: bool,
    log_format: str,
) -> None:
    """Writes the swarm's numbers into InfluxDB until it is told to end.

    Secrets are no options, for everybody on a host sees those: SKEP_INFLUX_TOKEN (--v2, --v3) and
    SKEP_INFLUX_PASSWORD (--user), or a file of either: SKEP_INFLUX_TOKEN_FILE, SKEP_INFLUX_PASSWORD_FILE.

    What cannot be written now waits, and is tried again; what the database refuses for good is dropped, and
    both are said.
    """
    target = target_of(url, v1, v2, v3)
    secret = secret_of(os.environ, user, needs_token=v1 is None)
    if create and not target.create_query:
        raise click.UsageError(
            "--create is for --v1: InfluxDB 3 makes a database itself, InfluxDB 2 wants `influx setup`"
        )
    set_up_logging("info", log_format)
    reading = FeedSource(hosts or (default_host(),), timeout, usage)
    asyncio.run(_run(reading, FeedTarget(target, secret, create, ca, buffer_mib * MIB), interval))


def target_of(url: str, v1: str | None, v2: str | None, v3: str | None) -> Target:
    """Errors: `Invalid`, `UsageError`."""
    given = [
        (make, name) for make, name in ((v1_target, v1), (v2_target, v2), (v3_target, v3)) if name is not None
    ]
    if len(given) != 1:
        raise click.UsageError("which InfluxDB is it? Give one of --v1 DB, --v2 ORG/BUCKET and --v3 DB")
    ((make, name),) = given
    return make(url, name)


def secret_of(environment: Mapping[str, str], user: str | None, needs_token: bool) -> Callable[[], str]:
    """Returns what gives the secret, read anew each time where it is in a file: who changes it there need not
    start anything again. Errors: `Invalid`, `UsageError`."""
    variable = TOKEN if needs_token else PASSWORD
    if user is not None and needs_token:
        raise click.UsageError("--user is for --v1; --v2 and --v3 want a token: SKEP_INFLUX_TOKEN")
    if not needs_token and user is None:
        return lambda: ""
    before = f"{user}:" if user is not None else ""
    file, text = environment.get(f"{variable}_FILE"), environment.get(variable)
    if file:
        read_secret(Path(file), variable)
        return lambda: before + read_secret(Path(file), variable)
    if text:
        checked = _checked(text, variable)
        return lambda: before + checked
    raise Invalid(f"set {variable}, or {variable}_FILE to a file that has it")


def read_secret(file: Path, variable: str) -> str:
    """Errors: `Invalid`."""
    try:
        with file.open("rb") as opened:
            content = opened.read(SECRET_MAX_BYTES + 1)
    except OSError as error:
        raise Invalid(f"{file} ({variable}_FILE) cannot be read: {error.strerror}") from error
    return _checked(content.decode(errors="replace").strip(), f"{file} ({variable}_FILE)")


def _checked(secret: str, where: str) -> str:
    if not secret:
        raise Invalid(f"{where} is empty")
    if not secret.isprintable() or len(secret) > SECRET_MAX_BYTES:
        raise Invalid(f"{where} is no secret on one line: it is not one that a server could take")
    return secret


async def _run(reading: FeedSource, writing: FeedTarget, interval_s: float) -> None:
    clock, stop = SystemClock(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    reader = SwarmReader(reading.hosts, reading.timeout_s, reading.with_usage)
    sink = InfluxSink(writing.target, writing.secret, writing.creates, writing.ca)
    pace, buffer = FeedPace(interval_s, clock, random.random), WriteBuffer(writing.buffer_bytes)
    log.info("influx.started", writes_to=writing.target.name, every_s=interval_s)
    try:
        await InfluxFeed(reader.read, sink, buffer, pace, _say).run(stop)
    finally:
        await sink.close()
        await reader.close()


def _say(level: str, text: str) -> None:
    getattr(log, level)("influx.feed", said=text)
