"""What is known of a machine, and how docker-machine writes it down (`config.json`, version 3). Pure.

What docker-machine has in there and skep does not use is kept as it was read: its users may go back. What
only skep knows is below `Skep`, which docker-machine passes over.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import msgspec
from msgspec import Struct

from skep.machine.names import bracketed, check_address, check_name, check_user
from skep.runtime.errors import Corrupt, Invalid

CONFIG_VERSION = 3
ENGINE_PORT = 2376
SSH_PORT = 22
# A machine's `Skep.State`. docker-machine's own machines have none, and are whole.
HALF_MADE = "half-made"
MADE = "made"
# Members of config.json's `Driver` that all drivers have; all others are the driver's own details.
_COMMON = frozenset(
    (
        *("IPAddress", "MachineName", "SSHUser", "SSHPort", "SSHKeyPath", "StorePath"),
        *("SwarmMaster", "SwarmHost", "SwarmDiscovery", "EnginePort", "SSHKey"),
    )
)
_NO_SWARM = {"IsSwarm": False, "Address": "", "Discovery": "", "Agent": False, "Master": False, "Host": ""}


class SshPlace(Struct, frozen=True, kw_only=True):
    """How to log in. `key` is a file's path, empty: the user's own keys and agent. `address` is empty where
    the host is not there yet."""

    address: str = ""
    user: str = "root"
    port: int = SSH_PORT
    key: str = ""


class EngineWish(Struct, frozen=True, kw_only=True):
    """How the machine's engine is to run: `options` like `dns=10.0.0.1`, `labels` and `environment` like
    `a=b`. `install_url`: of a script that installs one, empty for the host's own packages."""

    port: int = ENGINE_PORT
    options: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    tls_sans: tuple[str, ...] = ()
    install_url: str = ""


class Machine(Struct, frozen=True, kw_only=True):
    """`why` is what keeps a half-made one from being whole. `details` is the driver's, and JSON. With `skepd`
    that is what answers at its port, else its engine itself."""

    name: str
    driver: str
    ssh: SshPlace
    engine: EngineWish
    skepd: bool = False
    details: dict[str, Any] = {}
    state: str = MADE
    why: str = ""

    @property
    def url(self) -> str:
        return f"tcp://{bracketed(self.ssh.address)}:{self.engine.port}"

    @property
    def is_whole(self) -> bool:
        return self.state == MADE


def to_config(machine: Machine, storage: PurePath, before: dict[str, Any] | None = None) -> bytes:
    """Returns config.json. `before` is what it has been: members that skep does not know stay."""
    own = storage / "machines" / machine.name
    certs = storage / "certs"
    ssh, engine = machine.ssh, machine.engine
    config: dict[str, Any] = {
        "ConfigVersion": CONFIG_VERSION,
        "Driver": {
            **machine.details,
            "IPAddress": ssh.address,
            "MachineName": machine.name,
            "SSHUser": ssh.user,
            "SSHPort": ssh.port,
            "SSHKeyPath": ssh.key,
            "StorePath": str(storage),
            "SwarmMaster": False,
            "SwarmHost": "",
            "SwarmDiscovery": "",
            "EnginePort": engine.port,
            "SSHKey": ssh.key,
        },
        "DriverName": machine.driver,
        "HostOptions": {
            "EngineOptions": {
                "ArbitraryFlags": list(engine.options),
                "Env": list(engine.environment),
                "Labels": list(engine.labels),
                "TlsVerify": True,
            },
            "AuthOptions": {
                "CertDir": str(certs),
                "CaCertPath": str(certs / "ca.pem"),
                "CaPrivateKeyPath": str(certs / "ca-key.pem"),
                "ServerCertPath": str(own / "server.pem"),
                "ServerKeyPath": str(own / "server-key.pem"),
                "ClientKeyPath": str(certs / "key.pem"),
                "ClientCertPath": str(certs / "cert.pem"),
                "ServerCertSANs": list(engine.tls_sans),
                "StorePath": str(own),
            },
        },
        "Name": machine.name,
        "Skep": {
            "InstallURL": engine.install_url,
            "State": machine.state,
            "Why": machine.why,
            "Skepd": machine.skepd,
        },
    }
    whole = _merged(before or {}, config)
    options = whole["HostOptions"]
    # docker-machine's `ls` ends at the first machine that has none, whoever made the others.
    options["SwarmOptions"] = options.get("SwarmOptions") or _NO_SWARM
    return msgspec.json.format(msgspec.json.encode(whole), indent=4) + b"\n"


def _merged(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Returns `now` with the members that only `before` has, at all depths."""
    whole = dict(before)
    for name, value in now.items():
        old = before.get(name)
        whole[name] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return whole


def from_config(content: bytes, name: str) -> Machine:
    """Returns what a config.json says: ours, or docker-machine's. Errors: `Corrupt`, which says what is
    wrong."""
    config = parse_config(content, name)
    try:
        driver = config["Driver"]
        options = config.get("HostOptions") or {}
        engine, auth = options.get("EngineOptions") or {}, options.get("AuthOptions") or {}
        ours = config.get("Skep") or {}
        state, address = str(ours.get("State") or MADE), str(driver["IPAddress"])
        return Machine(
            name=check_name(name),
            driver=str(config["DriverName"]),
            ssh=SshPlace(
                address=check_address(address) if address or state == MADE else "",
                user=check_user(str(driver.get("SSHUser") or "root")),
                port=_port(driver.get("SSHPort") or SSH_PORT),
                key=str(driver.get("SSHKeyPath") or ""),
            ),
            engine=EngineWish(
                port=_port(driver.get("EnginePort") or ENGINE_PORT),
                options=_texts(engine.get("ArbitraryFlags")),
                labels=_texts(engine.get("Labels")),
                environment=_texts(engine.get("Env")),
                tls_sans=_texts(auth.get("ServerCertSANs")),
                # docker-machine's own member says what it would use by itself, for all of its machines.
                install_url=str(ours.get("InstallURL") or ""),
            ),
            skepd=ours.get("Skepd") is True,
            details={name: value for name, value in driver.items() if name not in _COMMON},
            state=state,
            why=str(ours.get("Why") or ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError, Invalid) as error:
        raise Corrupt(f"the config.json of machine {name} cannot be used: {error!r}") from error


def parse_config(content: bytes, name: str) -> dict[str, Any]:
    """Returns all members. Errors: `Corrupt`."""
    try:
        config = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Corrupt(f"the config.json of machine {name} cannot be read: {error}") from error
    if config.get("ConfigVersion") != CONFIG_VERSION:
        version = config.get("ConfigVersion")
        raise Corrupt(f"the config.json of machine {name} is of version {version}, not {CONFIG_VERSION}")
    return config


def _port(value: object) -> int:
    port = int(str(value))
    if not 0 < port < 65536:
        raise ValueError(f"{port} is no port")
    return port


def _texts(values: object) -> tuple[str, ...]:
    if values is None:
        return ()
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list")
    return tuple(str(each) for each in values)
