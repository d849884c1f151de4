"""The user's own configuration of OpenSSH, with real servers in the same process."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest

from skep.machine.drivers.generic import Generic
from skep.machine.names import check_user
from skep.machine.record import EngineWish, Machine, SshPlace
from skep.machine.ssh import connected
from skep.machine.ssh_config import configured
from skep.runtime.errors import Denied, Invalid, Unavailable

pytestmark = pytest.mark.real_time


class _Server(asyncssh.SSHServer):
    """Lets the key in, and whoever is in, further."""

    def __init__(self, let_in: asyncssh.SSHKey, jumped: list[tuple[str, int]]) -> None:
        self._let_in = let_in
        self._jumped = jumped

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return bool(key == self._let_in)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        self._jumped.append((dest_host, dest_port))
        return True


class Here:
    """A user's home, and one server, which is the host and the jump host."""

    def __init__(self, home: Path) -> None:
        self.ssh = home / ".ssh"
        self.ssh.mkdir(mode=0o700)
        self.key, self.host_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        self.key.write_private_key(home / "id")
        self.jumped: list[tuple[str, int]] = []
        self.port = 0
        self.identity = home / "id"

    @property
    def place(self) -> SshPlace:
        return SshPlace(address="127.0.0.1", port=self.port, key=str(self.identity))

    def config(self, text: str) -> None:
        (self.ssh / "config").write_text(text)

    def known(self, key: asyncssh.SSHKey) -> None:
        line = f"[127.0.0.1]:{self.port} {key.export_public_key().decode()}"
        (self.ssh / "known_hosts").write_text(line)


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Here]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    made = Here(tmp_path)
    listener = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[made.host_key],
        server_factory=lambda: _Server(made.key.convert_to_public(), made.jumped),
    )
    made.port = listener.get_port()
    yield made
    listener.close()
    await listener.wait_closed()


@pytest.mark.parametrize("is_pinned", [True, False])
async def test_a_key_that_the_user_has_revoked_is_not_taken(here: Here, is_pinned: bool) -> None:
    """It is somebody else's by now; what is known of no other key of the host is no reason to take it."""
    shown = here.host_key.export_public_key().decode()
    (here.ssh / "known_hosts").write_text(f"@revoked * {shown}")
    with pytest.raises(Denied, match=r"127\.0\.0\.1 is revoked in ~/\.ssh/known_hosts"):
        async with connected(here.place, shown if is_pinned else None):
            pass


async def test_a_first_key_is_asked_of_known_hosts(here: Here) -> None:
    here.known(here.host_key)
    async with connected(here.place, None):
        pass
    here.known(asyncssh.generate_private_key("ssh-ed25519"))
    with pytest.raises(Denied, match=r"none of those that ~/\.ssh/known_hosts has"):
        async with connected(here.place, None):
            pass
    pinned = here.host_key.export_public_key().decode()
    async with connected(here.place, pinned):
        pass  # which was seen by whoever made the machine


async def test_a_host_is_reached_by_the_jump_that_the_users_configuration_names(here: Here) -> None:
    jump = f"Host 127.0.0.1\n    ProxyJump ada@localhost:{here.port}\n"
    here.config(f"{jump}Host localhost\n    IdentityFile {here.identity}\n")
    with pytest.raises(Denied, match="Log in there once: ssh ada@localhost"):
        async with connected(here.place, None):
            pass
    line = f"[localhost]:{here.port} {here.host_key.export_public_key().decode()}"
    (here.ssh / "known_hosts").write_text(line)
    async with connected(here.place, None) as host:
        assert host.host_key == here.host_key.export_public_key().decode().strip()
    assert here.jumped == [("127.0.0.1", here.port)]
    here.config("Host 127.0.0.1\n    ProxyJump localhost:1\n")
    with pytest.raises(Unavailable, match="the jump host localhost:1"):
        async with connected(here.place, None):
            pass


async def test_the_users_identity_counts_where_a_machine_names_none(here: Here) -> None:
    place = SshPlace(address="127.0.0.1", port=here.port)
    here.config(f"Host 127.*\n    IdentityFile {here.identity}\n")
    async with connected(place, None):
        pass
    here.config(f"Host 127.*\n    IdentityFile {here.identity}.none\n    IdentityFile {here.identity}\n")
    async with connected(place, None):
        pass  # one that is not there is passed over


RELAY = """import os, socket, sys, threading
line = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while data := os.read(0, 65536):
        line.sendall(data)
    line.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := line.recv(65536):
    os.write(1, data)
"""


async def test_a_proxy_command_is_the_users_own(here: Here, tmp_path: Path) -> None:
    (tmp_path / "relay.py").write_text(RELAY)
    command = f"{sys.executable} {tmp_path}/relay.py 127.0.0.1 %p"
    here.config(f"Host unresolved.example\n    ProxyCommand {command}\n")
    place = SshPlace(address="unresolved.example", port=here.port, key=str(here.identity))
    async with connected(place, None):
        pass


def test_users_and_ports_are_the_configurations_where_nobody_says_them(here: Here) -> None:
    here.config("Host 10.0.0.*\n    User ada\n    Port 2222\nHost web\n    HostName 10.0.0.7\n")
    machine = Machine(name="mg0", driver="generic", ssh=SshPlace(), engine=EngineWish())
    said = {option.name: option.default for option in Generic.options}

    def place(**more: str) -> SshPlace:
        values = {**said, **{name.replace("_", "-"): value for name, value in more.items()}}
        return Generic().wanted(machine, values).ssh

    assert place(generic_ip_address="10.0.0.5") == SshPlace(address="10.0.0.5", user="ada", port=2222)
    own = place(generic_ip_address="10.0.0.5", generic_ssh_user="root", generic_ssh_port="22")
    assert own == SshPlace(address="10.0.0.5")
    assert place(generic_ip_address="10.1.0.5") == SshPlace(address="10.1.0.5")
    with pytest.raises(Invalid, match=r"Host web 10\.0\.0\.7"):
        place(generic_ip_address="web")


def test_a_configuration_that_cannot_be_read_is_said(here: Here) -> None:
    here.config("Port many\n")
    with pytest.raises(Invalid, match=r"~/\.ssh/config cannot be used"):
        configured("h")
    here.config(f"ProxyJump {','.join('abcdefghij')}\n")
    with pytest.raises(Invalid, match="8 at most"):
        configured("h")


@pytest.mark.parametrize(
    "user", ["", "-oProxyCommand=x", "a;b", "a b", "$(x)", "`x`", "a'b", "a|b", "x" * 70]
)
def test_a_users_name_is_no_command(user: str) -> None:
    with pytest.raises(Invalid, match="no user's name"):
        check_user(user)
    assert check_user("ada.b@corp-x_1") == "ada.b@corp-x_1"
