"""Whose socket a container gets that binds Docker's well-known one. Pure.

`/var/run/docker.sock` means "the Docker API of this machine": where skepd runs that is skepd's, the engine
behind it is in no swarm (docs/adr/0014-the-docker-socket-is-skepds.md). A label of the service or of the
container has the engine's instead:

    skep.docker-socket=engine
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from skep.runtime.errors import Invalid

WELL_KNOWN = frozenset({"/var/run/docker.sock", "/run/docker.sock"})
LABEL = "skep.docker-socket"
SWARM, ENGINE = "swarm", "engine"  # the label's values, and the setting's

Json = dict[str, Any]


class DockerSocket(Struct, frozen=True):
    """`path` is where the engine finds skepd's socket, also while skepd is away. `served` are the paths at
    which users find it: one that is bound itself would be of the skepd that made it only."""

    path: str
    served: frozenset[str] = frozenset()

    def is_meant(self, source: str) -> bool:
        cleaned = clean_path(source)
        return cleaned != "" and cleaned in WELL_KNOWN | self.served | {self.path}

    def put_into(self, host_config: Json) -> bool:
        """Has every bind of Docker's socket be of this one, in `Binds` and in `Mounts`; names of members have
        no case, as for Go. True where there was one."""
        found = False
        for name, value in host_config.items():
            if not isinstance(value, list):
                continue
            if name.lower() == "binds":
                binds = [self._bind(each) for each in value]
                found, host_config[name] = found or binds != value, binds
            elif name.lower() == "mounts":
                mounts = [self._mount(each) for each in value]
                found, host_config[name] = found or mounts != value, mounts
        return found

    def _bind(self, bind: object) -> object:
        """SOURCE:TARGET[:OPTIONS]."""
        if not isinstance(bind, str):
            return bind
        source, colon, rest = bind.partition(":")
        return self.path + colon + rest if colon and self.is_meant(source) else bind

    def _mount(self, mount: object) -> object:
        if not isinstance(mount, dict):
            return mount
        members = {str(name).lower(): value for name, value in mount.items()}
        source = members.get("source")
        if members.get("type") != "bind" or not isinstance(source, str) or not self.is_meant(source):
            return mount
        return {name: self.path if name.lower() == "source" else value for name, value in mount.items()}


Given = Callable[[], DockerSocket | None]  # what containers get now; None for what the engine has there


def no_socket() -> None:
    """A `Given` where there is none."""


def clean_path(path: str) -> str:
    """Returns the path as the engine understands it; empty where it is none."""
    return posixpath.normpath("/" + path.lstrip("/")) if path.startswith("/") else ""


def is_skepds(server: str) -> bool:
    """True where an API's `Server` header says that skepd answers: behind it is no engine of its own."""
    return server.startswith("skep/")


def wants_engine(labels: Mapping[str, str]) -> bool:
    """True where the labels ask for the engine's own socket. Errors: `Invalid`."""
    asked = labels.get(LABEL, SWARM)
    if asked not in (SWARM, ENGINE):
        raise Invalid(f"label {LABEL}: '{asked[:100]}' is neither {SWARM} nor {ENGINE}")
    return asked == ENGINE
