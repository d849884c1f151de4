"""The user's docker contexts: where a daemon is, and by which certificates it is asked. The docker client
says it itself, whose files they are."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec
from msgspec import Struct, field

from skep.client.docker_program import ClientRefused, run_docker
from skep.runtime.errors import Invalid, NotFound
from skep.runtime.tls_files import client_context


class _Endpoint(Struct, frozen=True, rename="pascal"):
    host: str = ""
    skip_tls_verify: bool = field(name="SkipTLSVerify", default=False)


class _Storage(Struct, frozen=True):
    tls_path: str = field(name="TLSPath", default="")


class _Context(Struct, frozen=True, rename="pascal"):
    endpoints: dict[str, _Endpoint] = {}
    tls_material: dict[str, list[str]] = field(name="TLSMaterial", default={})
    storage: _Storage = _Storage()


class DockerContext(Struct, frozen=True):
    """`url` is one that `ApiClient` takes, or that it says it does not; `tls` as of it."""

    url: str
    tls: ssl.SSLContext | None = None


async def find_context(name: str) -> DockerContext:
    """Errors: `NotFound` (no docker client), `Unavailable`, `Invalid` (no such context, or one whose daemon
    is reached in a way that we do not know)."""
    try:
        said = await run_docker("context", "inspect", "--", name)
    except NotFound as error:
        raise NotFound(f"{error}: name a manager's API with --host") from error
    except ClientRefused as error:
        raise Invalid(str(error)) from error
    return read_context(name, said)


def read_context(name: str, said: bytes) -> DockerContext:
    """Returns what `docker context inspect` has said of a context. Errors: `Invalid`."""
    try:
        context = msgspec.json.decode(said, type=list[_Context])[0]
        endpoint = context.endpoints["docker"]
    except (msgspec.DecodeError, IndexError, KeyError) as error:
        raise Invalid(f"docker context inspect {name} says nothing of a daemon: {error}") from error
    if not endpoint.host.startswith(("unix://", "tcp://")):
        raise Invalid(
            f"the docker context {name} is at '{endpoint.host}': only unix:// and tcp:// are known here."
            " Forward the socket (ssh -L /tmp/skep.sock:/run/skep/skep.sock HOST) and name that:"
            " --host unix:///tmp/skep.sock"
        )
    files = context.tls_material.get("docker", [])
    if not files:
        return DockerContext(endpoint.host)
    directory = Path(context.storage.tls_path) / "docker"
    if endpoint.skip_tls_verify or not {"ca.pem", "cert.pem", "key.pem"} <= set(files):
        raise Invalid(
            f"the docker context {name} does not have all of ca.pem, cert.pem and key.pem, or does not verify"
            " its daemon: skep asks by mutual TLS, or without"
        )
    tls = client_context(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    return DockerContext(endpoint.host, tls)
