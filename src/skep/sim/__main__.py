"""`python -m skep.sim --seed N` replays one run; `--runs R` tries R seeds from there on."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any

import click
import structlog

from skep.sim.checkers import Violation
from skep.sim.cluster import Options, run
from skep.sim.loop import Stuck


@click.command()
@click.option("--seed", type=int, required=True, help="The run to replay.")
@click.option("--runs", default=1, show_default=True, help="How many seeds, from --seed on.")
@click.option("--workers", default=Options(0).workers, show_default=True)
@click.option("--managers", default=Options(0).managers, show_default=True)
@click.option("--period-s", default=Options(0).period_s, show_default=True, help="Virtual seconds of faults.")
@click.option("--incidents", default=Options(0).incidents, show_default=True)
@click.option("--steps", default=Options(0).steps, show_default=True, help="What users do in that time.")
@click.option("--verbose", "-v", is_flag=True, help="Show the cluster's own logs.")
def main(seed: int, runs: int, verbose: bool, **drawn: Any) -> None:
    """Simulates a whole cluster under virtual time with faults, and checks what must hold."""
    level = logging.INFO if verbose else logging.CRITICAL
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    for number in range(seed, seed + runs):
        options = Options(seed=number, **drawn)
        began = time.perf_counter()
        try:
            result = run(options)
        except (Violation, Stuck) as error:
            click.echo("\n".join(getattr(error, "trace", [])))
            click.echo(f"seed {number}: {error}\n  {options}", err=True)
            sys.exit(1)
        if runs == 1:
            click.echo("\n".join(result.trace))
        took = time.perf_counter() - began
        click.echo(
            f"seed {number}: held; as wanted {result.converged_s:.1f} s after healing;"
            f" digest {result.digest}; {took:.1f} s of real time"
        )


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of strings are iterated here and there: their order must replay too.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "skep.sim", *sys.argv[1:]])  # noqa: S606 (ourselves again)
    main()
