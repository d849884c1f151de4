"""SSH with a real server in the same process: what is bounded, and which host is believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest

from skep.machine.record import SshPlace
from skep.machine.ssh import OUTPUT_BYTES_MAX, SshHost, connected, wait_reachable
from skep.runtime.errors import Denied, Invalid, Unavailable

pytestmark = pytest.mark.real_time


class _Server(asyncssh.SSHServer):
    def __init__(self, let_in: asyncssh.SSHKey) -> None:
        self._let_in = let_in

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return bool(key == self._let_in)


async def _serve(process: asyncssh.SSHServerProcess[str]) -> None:
    """Runs what it is told in a shell of this machine."""
    assert process.command is not None
    child = await asyncio.create_subprocess_shell(
        process.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    given = await process.stdin.read()
    out, _ = await child.communicate(given.encode())
    process.stdout.write(out.decode())
    process.exit(child.returncode or 0)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[SshPlace, asyncssh.SSHKey]]:
    key, host_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    key.write_private_key(tmp_path / "id")
    listener = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        server_factory=lambda: _Server(key.convert_to_public()),
        process_factory=_serve,
    )
    yield SshPlace(address="127.0.0.1", port=listener.get_port(), key=str(tmp_path / "id")), host_key
    listener.close()
    await listener.wait_closed()


async def test_what_it_runs_has_its_input_and_says_how_it_ended(
    server: tuple[SshPlace, asyncssh.SSHKey],
) -> None:
    place, host_key = server
    async with connected(place, None) as host:
        done = await host.run("cat; echo \"it's\" 'x y'; exit 7", data=b"secret ")
        assert (done.status, done.text) == (7, "secret it's x y\n")
        assert done.said == "secret it's x y"
        assert host.host_key == host_key.export_public_key().decode().strip()
        assert host.fingerprint == host_key.get_fingerprint()
        shown = await host.run("printf 'one\\n\\033[31mtwo\\n'")
        assert shown.said == "one /  [31mtwo", "a terminal takes nothing of it for a command"


async def test_of_much_that_is_printed_the_end_is_kept(server: tuple[SshPlace, asyncssh.SSHKey]) -> None:
    async with connected(server[0], None) as host:
        done = await host.run("head -c 3000000 /dev/zero | tr '\\0' x; echo end")
    assert len(done.stdout) == OUTPUT_BYTES_MAX
    assert done.stdout.endswith(b"xend\n")


async def test_a_command_that_hangs_is_given_up(server: tuple[SshPlace, asyncssh.SSHKey]) -> None:
    async with connected(server[0], None) as host:
        with pytest.raises(Unavailable, match=r"did not end within 0\.3 s"):
            await host.run("sleep 1", timeout_s=0.3)
    await asyncio.sleep(1)  # the server's child ends


async def test_the_key_that_was_pinned_is_the_only_one(server: tuple[SshPlace, asyncssh.SSHKey]) -> None:
    place, host_key = server
    pinned = host_key.export_public_key().decode()
    async with connected(place, pinned) as host:
        assert isinstance(host, SshHost)
    for kind in ("ssh-ed25519", "ecdsa-sha2-nistp256"):
        other = asyncssh.generate_private_key(kind).export_public_key().decode()
        with pytest.raises(Denied, match="not the one that it had when it was seen first"):
            async with connected(place, other):
                pass
    with pytest.raises(Invalid, match="cannot be read"):
        async with connected(place, "nonsense"):
            pass


async def test_keys_that_cannot_be_used_are_said(
    server: tuple[SshPlace, asyncssh.SSHKey], tmp_path: Path
) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "locked", "pkcs8-pem", passphrase="x")
    key.write_private_key(tmp_path / "other")
    (tmp_path / "text").write_text("no key")
    for name, error, said in (
        ("locked", Invalid, "has a passphrase: give it to ssh-agent"),
        ("text", Invalid, "is no private key"),
        ("missing", Invalid, "SSH key does not exist"),
        ("other", Denied, "does not let us in"),
    ):
        place = SshPlace(address="127.0.0.1", port=server[0].port, key=str(tmp_path / name))
        with pytest.raises(error, match=said):
            await wait_reachable(place, None, lambda _: None)


async def test_who_waits_is_told_each_reason_once(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "id")
    said: list[str] = []
    place = SshPlace(address="127.0.0.1", port=1, key=str(tmp_path / "id"))
    with pytest.raises(Unavailable, match=r"SSH was waited for 1\.5 s: .*Connection refused"):
        await wait_reachable(place, None, said.append, wait_s=1.5)
    assert len(said) == 1


async def test_a_host_with_a_certificate_is_known_by_its_key(tmp_path: Path) -> None:
    key, host_key, authority = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(3))
    key.write_private_key(tmp_path / "id")
    certificate = authority.generate_host_certificate(host_key, "h", principals=["127.0.0.1"])
    listener = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[(host_key, certificate)],
        server_factory=lambda: _Server(key.convert_to_public()),
        process_factory=_serve,
    )
    place = SshPlace(address="127.0.0.1", port=listener.get_port(), key=str(tmp_path / "id"))
    try:
        async with connected(place, None) as host:
            assert host.host_key == host_key.export_public_key().decode().strip()
    finally:
        listener.close()
        await listener.wait_closed()
