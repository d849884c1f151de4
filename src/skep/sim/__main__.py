"""`python -m skep.sim --seed N` replays one run; `--runs R` tries R seeds from there on."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any

import click
import structlog

from skep.sim.cluster import run
from skep.sim.loop import Stuck
from skep.sim.options import Options
from skep.sim.violation import Violation


@click.command()
@click.option("--seed", type=int, required=True, help="The run to replay.")
@click.option("--runs", default=1, show_default=True, help="How many seeds, from --seed on.")
@click.option("--hosts", default=Options(0).hosts, show_default=True)
@click.option("--managers", default=Options(0).managers, show_default=True, help="Hosts that begin as such.")
@click.option("--period-s", default=Options(0).period_s, show_default=True, help="Virtual seconds of faults.")
@click.option("--incidents", default=Options(0).incidents, show_default=True)
@click.option("--steps", default=Options(0).steps, show_default=True, help="What users do in that time.")
@click.option("--images-missing", is_flag=True, help="Some updates are to images that are nowhere.")
@click.option("--freezes", is_flag=True, help="Engines answer nothing for a while.")
@click.option("--seals", is_flag=True, help="The store is sealed, and the data key changed.")
@click.option("--follows", is_flag=True, help="Somebody follows logs all the time.")
@click.option("--overlays", is_flag=True, help="Agents are told who is on their overlay networks.")
@click.option("--large-overlays", is_flag=True, help="… of which many are large, and asked for.")
@click.option("--locks", is_flag=True, help="Managers lock themselves, and are unlocked.")
@click.option("--moves", is_flag=True, help="Machines get other addresses.")
@click.option("--suspends", is_flag=True, help="Managers stand still for minutes.")
@click.option("--expires", is_flag=True, help="Certificates last for minutes.")
@click.option("--keep-going", "-k", is_flag=True, help="Try the other seeds after one that fails.")
@click.option("--verbose", "-v", is_flag=True, help="Show the cluster's own logs.")
def main(seed: int, runs: int, keep_going: bool, verbose: bool, **drawn: Any) -> None:
    """Simulates a whole cluster under virtual time with faults, and checks what must hold."""
    level = logging.INFO if verbose else logging.CRITICAL
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    failed = 0
    for number in range(seed, seed + runs):
        options = Options(seed=number, **drawn)
        began = time.process_time()
        try:
            result = run(options)
        except (Violation, Stuck) as error:
            if not keep_going:
                click.echo("\n".join(getattr(error, "trace", [])))
            click.echo(f"seed {number}: {error}\n  {options}", err=True)
            failed += 1
            if keep_going:
                continue
            break
        if runs == 1:
            click.echo("\n".join(result.trace))
        took = time.process_time() - began
        click.echo(
            f"seed {number}: held; as wanted {result.converged_s:.1f} s after healing;"
            f" digest {result.digest}; {took:.1f} s of processor time"
        )
    if runs > 1:
        click.echo(f"{failed} of {runs} seeds failed" if keep_going or not failed else "stopped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of strings are iterated here and there: their order must replay too.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "skep.sim", *sys.argv[1:]])  # noqa: S606 (ourselves again)
    main()
