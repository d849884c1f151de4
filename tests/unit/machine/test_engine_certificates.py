"""What a machine's engine is asked by, where the certificates are others' than the machine's."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from pathlib import Path

import pytest

from skep.machine import certs
from skep.machine.engine import CONNECT_SHARE, RUNNING, TIMEOUT, condition_of
from skep.machine.record import EngineWish, Machine, SshPlace

NOW = 1_800_000_000.0


def write_client(directory: Path, ca: certs.Pair, now: float = NOW) -> None:
    client = certs.new_client(ca, "ada", now)
    for name, content in (
        ("ca.pem", ca.certificate_pem),
        ("cert.pem", client.certificate_pem),
        ("key.pem", client.key_pem),
    ):
        (directory / name).write_bytes(content)


def machine_at(listening: asyncio.Server) -> Machine:
    port = listening.sockets[0].getsockname()[1]
    return Machine(
        name="mg0", driver="generic", ssh=SshPlace(address="127.0.0.1"), engine=EngineWish(port=port)
    )


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
    server = certs.new_server(ours if same_authority else others, "ada", names, NOW)
    write_client(tmp_path, ours)
    (tmp_path / "server.pem").write_bytes(server.certificate_pem + server.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with listening:
        found = await condition_of(machine_at(listening), tmp_path)
    assert found.state == RUNNING
    assert re.search(reason, found.error), found.error


@pytest.mark.real_time
@pytest.mark.parametrize("answers_tls", [False, True])
async def test_who_does_not_connect_is_given_less_time_than_who_does_not_answer(
    tmp_path: Path, answers_tls: bool
) -> None:
    now = time.time()
    ca = certs.new_ca("ada", now)
    server = certs.new_server(ca, "ada", ("127.0.0.1",), now)
    write_client(tmp_path, ca, now)
    (tmp_path / "server.pem").write_bytes(server.certificate_pem + server.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        writer.close()

    listening = await asyncio.start_server(be_silent, "127.0.0.1", 0, ssl=context if answers_tls else None)
    timeout_s = 2.0
    async with listening:
        began = asyncio.get_running_loop().time()
        found = await condition_of(machine_at(listening), tmp_path, timeout_s)
        took_s = asyncio.get_running_loop().time() - began
    assert found.state == TIMEOUT
    assert "it took too long" in found.error or "nothing within" in found.error
    if answers_tls:
        assert took_s > timeout_s * 0.9
    else:
        assert timeout_s * CONNECT_SHARE * 0.9 < took_s < timeout_s * 0.9
