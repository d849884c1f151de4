"""The command `skepd`: its options. What it does then is `serving`'s."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from skep import __version__
from skep.model.bounds import check_sum
from skep.runtime.entry import Program, reason_of
from skep.runtime.errors import SkepError
from skep.runtime.importing import importing
from skep.runtime.log import get_logger, set_up_logging
from skep.runtime.process import keep_memory_private, raise_file_limit
from skep.runtime.settings import load_settings

log = get_logger()


@click.command(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--name", help="This node's host name in the swarm (default: the machine's).")
@click.option("--state-dir", help="Where certificates and etcd's data are kept. [/var/lib/skep]")
@click.option(
    "--host",
    "-H",
    multiple=True,
    help="Where to serve the Docker API: unix://PATH or tcp://ADDR:PORT; may be given again."
    " [unix:///run/skep/skep.sock]",
)
@click.option("--tlsverify", is_flag=True, default=None, help="Serve tcp:// hosts with mutual TLS.")
@click.option("--tlscacert", help="Clients must hold a certificate of this CA.")
@click.option("--tlscert", help="The API's certificate.")
@click.option("--tlskey", help="The API's key.")
@click.option("--engine", help="The Docker Engine: unix://PATH or `simulated`. [unix:///var/run/docker.sock]")
@click.option(
    "--docker-socket",
    type=click.Choice(["swarm", "engine"]),
    help="Whose socket containers get that bind /var/run/docker.sock: this skepd's, or the engine's. [swarm]",
)
@click.option("--etcd", help="The etcd program that managers run. [etcd]")
@click.option(
    "--safe-mode",
    is_flag=True,
    default=None,
    help="Serve the API and decide nothing, so that what is broken can be removed; on managers.",
)
@click.option(
    "--metrics-addr",
    metavar="HOST:PORT",
    help="Where to serve metrics for Prometheus, in plain HTTP to whoever asks: /metrics, on managers also"
    " /metrics/nodes, /metrics/services and /metrics/mesh.",
)
@click.option("--log-level", help="debug, info, warning or error. [info]")
@click.option("--log-format", help="auto, text or json. [auto]")
@click.option("--config", "config", help='A TOML file with the same settings (state_dir = "…").')
@click.version_option(__version__, prog_name="skepd")
def main(config: str | None, **flags: Any) -> None:
    """The swarm daemon: one per host, next to its Docker Engine.

    Every option can also be given in a TOML file (--config) or the environment (SKEPD_STATE_DIR, …).
    """
    given = {k: (list(v) or None) if isinstance(v, tuple) else v for k, v in flags.items()}
    try:
        check_sum()
        settings = load_settings(given, config, os.environ)
        set_up_logging(settings.log_level, settings.log_format)
        keep_memory_private()
        raise_file_limit()
        # What the daemon is made of takes most of its start: help, completion and wrong options do without.
        with importing():
            import uvloop

            from skep.daemon.serving import load, serve

            load(settings)

        uvloop.run(serve(settings))
    except (SkepError, OSError) as error:
        click.echo(f"skepd: {reason_of(error)}", err=True)
        sys.exit(1)
    except Exception:
        # A fault of ours. The log says where: it may not come again when somebody wants to see it.
        log.exception("skepd.failed")
        raise
