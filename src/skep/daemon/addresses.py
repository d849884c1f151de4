"""Which addresses to listen on and to advertise; Docker's rules and words (`docker swarm init`)."""

from __future__ import annotations

import ipaddress
import socket

import psutil

from skep.model.mesh import is_host_address, is_numeric
from skep.runtime.errors import Invalid

DEFAULT_PORT = 2377
_VIRTUAL = ("lo", "docker", "br-", "veth", "skep", "virbr")


def parse_address(text: str, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """Returns (host, port) of `host`, `host:port` or `[v6]:port`. Errors: `Invalid`."""
    host, port = text, str(default_port)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, port = text.split(":")
    try:
        number = int(port)
    except ValueError:
        number = -1
    if not host or not 0 < number < 65536:
        raise Invalid(f"invalid address '{text}': it must be HOST, HOST:PORT or an interface's name")
    return host, number


def join_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def require_listen(text: str) -> None:
    """Clients say where to listen: Docker has no default for it in its API. Errors: `Invalid`."""
    if not text:
        raise Invalid('invalid ListenAddr "": invalid empty address')


def resolve_listen(text: str) -> tuple[str, int]:
    """Returns where to listen. Errors: `Invalid`, in Docker's words where it is no address of a machine."""
    host, port = parse_address(text or f"0.0.0.0:{DEFAULT_PORT}")
    host = _interface_address(host) or host
    if not is_numeric(host):
        raise Invalid("listen address must be an IP address or network interface (with optional port number)")
    return host, port


def resolve_advertise(text: str, listen: tuple[str, int]) -> tuple[str, int]:
    """Returns what others are told. Errors: `Invalid` where it cannot be chosen, in Docker's words."""
    if text:
        host, port = parse_address(text, listen[1])
        host = _interface_address(host) or host
        if not _is_given(host):
            raise Invalid(
                "advertise address must be a non-zero IP address or network interface"
                " (with optional port number)"
            )
        return host, port
    if listen[0] not in ("0.0.0.0", "::"):
        return listen
    found = _system_addresses()
    if not found:
        raise Invalid("could not find the system's IP address")  # the client adds what to do
    if len(found) > 1:
        several = ", ".join(f"{address} on {name}" for name, address in found)
        raise Invalid(
            "could not choose an IP address to advertise since this system has multiple addresses on"
            f" different interfaces ({several})"
        )
    return found[0][1], listen[1]


def resolve_data_path(text: str) -> str:
    """Returns the address for traffic between containers; an empty text where none was given. Errors:
    `Invalid`, in Docker's words."""
    host = _interface_address(text) or text
    if host and not is_host_address(host):
        raise Invalid(
            "data path address must be a non-zero IP address or network interface (without a port number)"
        )
    return host


def given_host(address: str) -> str:
    """Returns the host of what is advertised (host:port); empty where others cannot reach it as it is said:
    a name, or nothing."""
    host = parse_address(address)[0] if address else ""
    return host if is_host_address(host) else ""


def _is_given(host: str) -> bool:
    """True for an address that others can reach, as far as it tells."""
    return is_numeric(host) and not ipaddress.ip_address(host).is_unspecified


def _interface_address(name: str) -> str:
    for address in psutil.net_if_addrs().get(name, []):
        if address.family == socket.AF_INET:
            return str(address.address)
    return ""


def _system_addresses() -> list[tuple[str, str]]:
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    return [
        (name, str(address.address))
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if name in up and not name.startswith(_VIRTUAL) and address.family == socket.AF_INET
    ]
