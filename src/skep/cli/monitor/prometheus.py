"""`skep monitor prometheus`: prints what Prometheus needs to watch a swarm."""

from __future__ import annotations

import os

import click

from skep.cli.swarm_options import HostUrl
from skep.monitor.prometheus import rules
from skep.monitor.prometheus.config import PORT, Discovery, by_discovery, by_targets
from skep.runtime.errors import Invalid
from skep.runtime.settings import DEFAULT_HOST, PORT_MAX, metrics_address


def _checked(_: click.Context, __: click.Parameter, targets: tuple[str, ...]) -> tuple[str, ...]:
    for target in targets:
        try:
            host, port = metrics_address(target)
        except Invalid:
            host, port = "", 0
        if not host or not port or not host.isprintable() or set(" /") & set(host):
            raise click.BadParameter(
                f"'{target}' is not HOST:PORT, such as 10.0.0.9:{PORT} or [fd00::9]:{PORT}"
            )
    return targets


@click.command("prometheus")
@click.option("--rules", "wants_rules", is_flag=True, help="Print the recording and alerting rules.")
@click.option("--config", "wants_config", is_flag=True, help="Print a configuration that uses them.")
@click.option(
    "--host",
    type=HostUrl(),
    envvar="DOCKER_HOST",
    help="Where Prometheus is to ask the swarm for its nodes and tasks, a manager's API: unix://PATH or"
    f" tcp://HOST:PORT. [$DOCKER_HOST, {DEFAULT_HOST}]",
)
@click.option(
    "--tls-dir",
    metavar="DIR",
    help="With ca.pem, cert.pem and key.pem for that API, as Prometheus finds them. [with tcp:// and"
    " $DOCKER_TLS_VERIFY: $DOCKER_CERT_PATH]",
)
@click.option(
    "--port",
    type=click.IntRange(1, PORT_MAX),
    default=PORT,
    show_default=True,
    help="The port of the daemons' --metrics-addr.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="HOST:PORT",
    callback=_checked,
    help="A daemon's --metrics-addr, as Prometheus reaches it, in place of asking the swarm; may be given"
    " again.",
)
def prometheus_command(
    wants_rules: bool,
    wants_config: bool,
    host: str | None,
    tls_dir: str | None,
    port: int,
    targets: tuple[str, ...],
) -> None:
    """Prints what Prometheus needs to watch a swarm whose daemons have --metrics-addr.

    \b
    skep monitor prometheus --rules > skep-rules.yml
    skep monitor prometheus --config > prometheus.yml
    promtool check config prometheus.yml
    """
    if wants_rules == wants_config:
        raise click.UsageError("say what to print: --rules or --config")
    if wants_rules:
        click.echo(rules(), nl=False)
    elif targets:
        click.echo(by_targets(targets), nl=False)
    else:
        click.echo(by_discovery(_discovery(host or DEFAULT_HOST, tls_dir, port)), nl=False)


def _discovery(host: str, tls_dir: str | None, port: int) -> Discovery:
    if tls_dir is None and host.startswith("tcp://") and os.environ.get("DOCKER_TLS_VERIFY"):
        tls_dir = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")
    return Discovery(host, tls_dir or "", port)
