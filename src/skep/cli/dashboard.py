"""`skep dashboard`: a page of the swarm on this machine, for one user, with what that user may."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import webbrowser
from pathlib import Path

import click

from skep.cli.link_file import LinkFile
from skep.cli.swarm_options import HostUrl
from skep.client.api import check_manager, default_host
from skep.client.contexts import DockerContext, find_context
from skep.runtime.errors import Invalid
from skep.runtime.log import set_up_logging
from skep.runtime.supervise import told_to_end
from skep.web.dashboard import Dashboard
from skep.web.swarm_api import SwarmApi


@click.command("dashboard")
@click.option(
    "--host",
    "-H",
    "hosts",
    type=HostUrl(),
    multiple=True,
    help="A manager's API; given again: others, asked where it is away. [$DOCKER_HOST, or skepd's socket]",
)
@click.option("--context", help="The docker context whose daemon is a manager, instead of --host.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Of 127.0.0.1, for the page; 0: any. [0]"
)
@click.option("--read-only", is_flag=True, help="Offer and pass on no orders.")
@click.option("--no-browser", is_flag=True, help="Print the link only.")
def dashboard_command(
    hosts: tuple[str, ...], context: str | None, port: int, read_only: bool, no_browser: bool
) -> None:
    """Shows the swarm as a web page: nodes, services and tasks as they change, logs, events, orders.

    The page is at 127.0.0.1, for whoever opens the link that is printed: it opens one browser, once. It asks
    the swarm as you would with docker, by the same socket or certificates. Ctrl-C ends it.
    """
    if hosts and context:
        raise Invalid("name the swarm by --host or by --context, not by both")
    set_up_logging("warning", "text")
    asyncio.run(_show(hosts, context, port, read_only, not no_browser and has_screen(os.environ)))


def has_screen(environment: os._Environ[str] | dict[str, str], platform: str = sys.platform) -> bool:
    """True where a browser opened here is one beside the terminal, and not a program in it."""
    if platform != "linux":
        return True
    return any(environment.get(each) for each in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


async def _show(hosts: tuple[str, ...], context: str | None, port: int, read_only: bool, opens: bool) -> None:
    found = await find_context(context) if context else DockerContext(default_host())
    swarm = SwarmApi(hosts or [found.url], found.tls)
    file: LinkFile | None = None

    def was_opened() -> None:
        click.echo(f"For another browser: {shown.link}")
        if file is not None:
            file.remove()

    try:
        check_manager(await swarm.json("/info"), swarm.url)
        shown = Dashboard(swarm, read_only, was_opened)
        ended = told_to_end()
        await shown.listen(port)
        try:
            click.echo(f"The swarm at {swarm.url} is shown to who opens this link, once (Ctrl-C ends it):")
            click.echo(shown.link)
            if opens and (file := _link_file(shown.link)) is not None:
                # Some return when their window is closed; Ctrl-C is not to wait for that.
                threading.Thread(target=webbrowser.open, args=(file.url,), daemon=True).start()
            await ended.wait()
        finally:
            if file is not None:
                file.remove()
            await shown.close()
    finally:
        await swarm.close()


def _link_file(link: str) -> LinkFile | None:
    try:
        return LinkFile(link, Path.home())
    except (Invalid, RuntimeError) as error:  # no home, or one that cannot be written to
        click.echo(f"No browser is opened: a file that leads it there cannot be made ({error})", err=True)
        return None
