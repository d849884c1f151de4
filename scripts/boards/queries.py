"""What queries are made of. Why they are as they are: docs/operations.md, "What boards ask"."""

# ruff: noqa: S608 (queries of boards; nobody's words are put into them)

from __future__ import annotations

from .panel import Choice

# One Prometheus may watch several swarms, a job each; series by node and service come by jobs of their own.
JOB = 'job=~"$job(-nodes|-services)?"'
JOBS = Choice("job", "Swarm (job)", "label_values(swarm_manager_leader, job)")
WINDOW = "WHERE $timeFilter"
STEP = "GROUP BY time($__interval)"
# Rows of now: what was removed writes no more. Several intervals of who writes: 10 s, as Telegraf comes.
NOW = "WHERE time > now() - 1m"


def series(name: str, matchers: str = "") -> str:
    """Returns a selector of a swarm's series; `matchers` as in PromQL, without braces."""
    return f"{name}{{{', '.join(filter(None, (JOB, matchers)))}}}"


def whole(name: str, matchers: str = "") -> str:
    """Returns a number of the whole swarm. For an interval after a change of leader two managers have one: a
    sum is taken within each, the larger of the two is shown, never both."""
    return f"max(sum by (instance) ({series(name, matchers)}))"


def by(label: str, name: str, matchers: str = "") -> str:
    """Returns the same for each value of a label."""
    return f"max by ({label}) (sum by (instance, {label}) ({series(name, matchers)}))"


def each(label: str, name: str, matchers: str = "") -> str:
    """Returns one series for each node or service: by its id, for names may be shared."""
    return f"max by ({label}) ({series(name, matchers)})"


def rate(name: str) -> str:
    """Returns how fast a counter of each process grows, a second. Each counts its own, so these add up."""
    return f"rate({series(name)}[$__rate_interval])"


def of_processes(series_of_each: str) -> str:
    """Returns what managers' own processes say, where workers' are asked, too."""
    return f"{series_of_each} and on (instance) {series('swarm_node_manager')} == 1"


def of_managers(name: str) -> str:
    """Returns a series of each node that is a manager at the moment."""
    info = each("node_id", "skep_node_info", 'role="manager"')
    return f"{each('node_id', name)} * on (node_id) {info}"


def last(field: str, measurement: str, where: str = "") -> str:
    """Returns what was last written in each interval."""
    return f'SELECT last("{field}") FROM "{measurement}" {WINDOW}{_and(where)} {STEP} fill(none)'


def last_by(tag: str, field: str, measurement: str) -> str:
    return f'SELECT last("{field}") FROM "{measurement}" {WINDOW} {STEP}, "{tag}" fill(none)'


def over(how: str, tag: str, field: str, measurement: str, where: str = "", scale: str = "") -> str:
    """Returns a sum or mean over nodes or services: of the last of each in each interval. Those of one
    gathering have one time, so an interval has all or none of them, and is not filled with what was before,
    removed ones included."""
    inner = (
        f'SELECT last("{field}") AS "v" FROM "{measurement}" {WINDOW}{_and(where)} {STEP}, "{tag}" fill(none)'
    )
    return f'SELECT {how}("v"){scale} FROM ({inner}) {WINDOW} {STEP} fill(none)'


def _and(where: str) -> str:
    return f" AND {where}" if where else ""
