"""`skep monitor grafana`: the files by which a Grafana shows a swarm."""

from __future__ import annotations

from pathlib import Path

import click

from skep.cli.monitor.writing import write_files
from skep.monitor.grafana import DATABASE, PROVISIONING, Source, is_own, provisioning

_PROMETHEUS = "http://localhost:9090"


@click.command("grafana")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A directory, made if need be.",
)
@click.option(
    "--prometheus", metavar="URL", help=f"Prometheus, as Grafana reaches it.  [default: {_PROMETHEUS}]"
)
@click.option("--influx", metavar="URL", help="InfluxDB, as Grafana reaches it; both may be given.")
@click.option("--database", default=DATABASE, show_default=True, help="InfluxDB's database.")
@click.option(
    "--seen-as",
    default=PROVISIONING,
    show_default=True,
    help="What the directory is called where Grafana runs.",
)
def grafana_command(
    out: Path, prometheus: str | None, influx: str | None, database: str, seen_as: str
) -> None:
    """Writes Grafana's boards and the files by which it finds them and the databases.

    Boards: Swarm2k (as in 2016), Swarm, Service, Node, Managers. What skep has written before is replaced;
    where a file of somebody else's is in the way, nothing is written.
    """
    urls: dict[Source, str] = {}
    if prometheus or not influx:
        urls["prometheus"] = prometheus or _PROMETHEUS
    if influx:
        urls["influx"] = influx
    for option, url in (("--prometheus", urls.get("prometheus")), ("--influx", urls.get("influx"))):
        if url is not None and not url.startswith(("http://", "https://")):
            raise click.BadParameter(f"'{url}' is no URL like http://HOST:PORT", param_hint=option)
        if url is not None and "@" in url.partition("://")[2].partition("/")[0]:
            raise click.BadParameter(
                "it must not name a user or a password: everybody on this host sees it, and reads the files"
                " that are written; say them in Grafana",
                param_hint=option,
            )
    files = provisioning(urls, database, seen_as.rstrip("/"))
    write_files(out, files, is_own)
    for name in files:
        click.echo(out / name)
    click.echo(
        f"\nNext, where Grafana runs: have it find these in {seen_as}, and start it again. For example"
    )
    if out.absolute() == Path(seen_as):
        click.echo("  systemctl restart grafana-server")
    else:
        click.echo(f"  cp -r {out}/. {seen_as}/ && systemctl restart grafana-server")
        click.echo(f"  docker run -p 3000:3000 -v {out.absolute()}:{seen_as}:ro grafana/grafana")
    click.echo("Its folder `skep` has the boards then.")
