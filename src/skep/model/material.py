"""Secrets and configs: what a user gives (Engine API 1.51, `POST /secrets/create`), and what is stored.

Both are material that tasks find as files. They differ in their largest size, and in that a config's data is
shown again.
"""

from __future__ import annotations

from msgspec import Struct, field

from .container import ContainerSpec, DriverConfig
from .wire import Wire, always_empty_map

SECRET, CONFIG = "secret", "config"
KINDS = (SECRET, CONFIG)


class ConfigSpec(Wire, frozen=True, kw_only=True):
    """The body of `POST /configs/create`. `templating` is carried out where a task finds the data."""

    name: str = ""
    labels: dict[str, str] = field(default_factory=always_empty_map)
    data: bytes = b""
    templating: DriverConfig | None = None

    def __repr__(self) -> str:
        """Whatever prints it (a log, a trace) does not show the data."""
        return f"{type(self).__name__}(name={self.name!r})"


class SecretSpec(ConfigSpec, frozen=True, kw_only=True):
    """The body of `POST /secrets/create`. `driver` is a plugin that would bring the data."""

    driver: DriverConfig | None = None


class Material(Struct, frozen=True, kw_only=True):
    """A secret or a config as it is stored."""

    kind: str
    id: str
    spec: ConfigSpec
    created_at: float
    updated_at: float
    version: int = 0


class MaterialPayload(Struct, frozen=True, array_like=True):
    """A secret's or config's data on its way to a node that has a task for it."""

    id: str
    data: bytes
    template: str = ""  # whose template language the data is in; empty: none

    def __repr__(self) -> str:
        """Whatever prints it (a log, a trace) does not show the data."""
        return f"MaterialPayload(id={self.id!r})"


def references(container: ContainerSpec | None) -> list[tuple[str, str, str]]:
    """Returns (kind, id, name) of all that a task of the spec asks for."""
    if container is None:
        return []
    found = [(SECRET, each.secret_id, each.secret_name) for each in container.secrets]
    return found + [(CONFIG, each.config_id, each.config_name) for each in container.configs]
