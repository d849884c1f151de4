"""What a stack that watches a swarm is to be. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct, field

from skep.model.constraint import parse_constraint
from skep.monitor.grafana import DATABASE
from skep.monitor.prometheus.config import PORT
from skep.runtime.errors import Invalid
from skep.runtime.settings import DEFAULT_HOST

PROMETHEUS, INFLUXDB, GRAFANA, WRITER = "prometheus", "influxdb", "grafana", "skep"
# The versions that were tried, or whose form the boards have (Grafana 12). `skep` has no public image.
IMAGES = {
    PROMETHEUS: "prom/prometheus:v3.5.0",
    INFLUXDB: "influxdb:1.8.10",
    GRAFANA: "grafana/grafana:12.3.2",
    WRITER: "",
}
PORTS = {PROMETHEUS: 9090, INFLUXDB: 8086, GRAFANA: 3000}  # within their containers
MANAGERS = "node.role == manager"
NAME_MAX = 24  # names of configs are made of it, and have 64 characters at most
_SEEN = "/run/swarm-api"
_SHARED = frozenset({"", "/run", "/var/run"})
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_IMAGE = re.compile(r"[A-Za-z0-9][^\s$]*")
_KEPT = re.compile(r"(?:[1-9][0-9]*(?:ms|[smhdwy]))+")  # as Prometheus reads a duration, but not nothing


class StackPlan(Struct, frozen=True):
    """`parts` are services, of `IMAGES`; `published`: which port of every node leads to which of them.
    `socket`: where managers' API is, a path on their hosts. `constraints` besides those that each needs."""

    name: str
    parts: tuple[str, ...]
    images: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, int] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    socket: str = DEFAULT_HOST.removeprefix("unix://")
    metrics_port: int = PORT
    keep_for: str = "15d"
    database: str = DATABASE

    def image(self, part: str) -> str:
        return self.images.get(part) or IMAGES[part]

    @property
    def mount(self) -> tuple[str, str]:
        """Returns what of a manager's host is mounted where, so that the API is there: the directory of its
        socket, for a skepd that starts again makes another socket; of /run the socket alone."""
        directory, _, name = self.socket.rpartition("/")
        if directory in _SHARED:
            return self.socket, f"{_SEEN}/{name}"
        return directory, _SEEN

    @property
    def api(self) -> str:
        """Returns the API's URL for whom it is mounted."""
        return f"unix://{_SEEN}/{self.socket.rpartition('/')[2]}"

    @property
    def password_name(self) -> str:
        """Returns what the secret with Grafana's password is called."""
        return f"{self.name}-grafana-password"


def check_plan(plan: StackPlan) -> None:
    """Errors: `Invalid`, which says what to do."""
    if not _NAME.fullmatch(plan.name) or len(plan.name) > NAME_MAX:
        raise Invalid(
            f"'{plan.name}' is no name for it: small letters, digits, - and _, {NAME_MAX} at most (--name)"
        )
    if not _KEPT.fullmatch(plan.keep_for):
        raise Invalid(f"'{plan.keep_for}' is no time to keep anything: write 15d, 12h or 1y (--keep)")
    for part, image in plan.images.items():
        if not _IMAGE.fullmatch(image):
            raise Invalid(f"--image {part}={image}: no image's name")
    for part in plan.parts:
        if not plan.image(part):
            raise Invalid(
                f"what writes to InfluxDB is skep itself, of which there is no public image: name yours with"
                f" --image {part}=IMAGE (docs/operations.md says how to make one), or leave --influx out"
            )
    for constraint in plan.constraints:
        try:
            parse_constraint(constraint)
        except Invalid as error:
            raise Invalid(f"--constraint {constraint}: {error}") from error
    for part in plan.published:
        if part not in plan.parts:
            raise Invalid(f"--publish {part}=…: {part} is not part of it ({', '.join(plan.parts)} are)")
    ports = list(plan.published.values())
    if twice := {port for port in ports if ports.count(port) > 1}:
        raise Invalid(f"--publish: port {min(twice)} cannot lead to two services")
    if not plan.socket.startswith("/") or plan.socket.endswith("/"):
        raise Invalid(
            f"--socket {plan.socket}: a path on managers' hosts begins with /, and ends with a name"
        )
