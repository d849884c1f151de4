"""What a machine's engine is asked by, where the certificates are others' than the machine's."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path

import pytest

from skep.machine import certs
from skep.machine.engine import RUNNING, condition_of
from skep.machine.record import EngineWish, Machine, SshPlace

NOW = 1_800_000_000.0


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("names", "same_authority", "reason"),
    [
        (("127.0.0.9",), True, "IP address mismatch"),
        (("127.0.0.1",), False, "self-signed certificate|unable to get"),
    ],
)
async def test_what_is_wrong_with_a_certificate_is_said(
    tmp_path: Path, names: tuple[str, ...], same_authority: bool, reason: str
) -> None:
    ours, others = certs.new_ca("ada", NOW), certs.new_ca("eve", NOW)
    client = certs.new_client(ours, "ada", NOW)
    server = certs.new_server(ours if same_authority else others, "ada", names, NOW)
    for name, content in (
        ("ca.pem", ours.certificate_pem),
        ("cert.pem", client.certificate_pem),
        ("key.pem", client.key_pem),
        ("server.pem", server.certificate_pem + server.key_pem),
    ):
        (tmp_path / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        machine = Machine(
            name="mg0",
            driver="generic",
            ssh=SshPlace(address="127.0.0.1"),
            engine=EngineWish(port=port),
        )
        found = await condition_of(machine, tmp_path)
    assert found.state == RUNNING
    assert re.search(reason, found.error), found.error
