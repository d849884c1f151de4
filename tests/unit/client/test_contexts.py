"""A docker context as the docker client says it: where its daemon is, and what we do not know."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from skep.client.contexts import read_context
from skep.runtime.errors import Invalid
from tests.certificates import make_certificates


def said(
    host: str, files: list[str] | None = None, directory: Path = Path("/tls"), skip: bool = False
) -> bytes:
    context = {
        "Name": "c",
        "Metadata": {},
        "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": skip}},
        "TLSMaterial": {} if files is None else {"docker": files},
        "Storage": {"MetadataPath": "/meta", "TLSPath": str(directory)},
    }
    return msgspec.json.encode([context])


def test_a_socket() -> None:
    found = read_context("c", said("unix:///run/skep/skep.sock"))
    assert (found.url, found.tls) == ("unix:///run/skep/skep.sock", None)


def test_an_address_without_certificates() -> None:
    assert read_context("c", said("tcp://10.0.0.1:2375")).tls is None


@pytest.mark.parametrize("host", ["ssh://me@host", "npipe:////./pipe/docker_engine", ""])
def test_other_ways_are_named(host: str) -> None:
    with pytest.raises(Invalid, match="only unix:// and tcp:// are known here") as refused:
        read_context("c", said(host))
    assert "ssh -L" in str(refused.value)


@pytest.mark.parametrize(("files", "skip"), [(["ca.pem"], False), (["ca.pem", "cert.pem", "key.pem"], True)])
def test_half_of_mutual_tls_is_refused(files: list[str], skip: bool) -> None:
    with pytest.raises(Invalid, match="mutual TLS"):
        read_context("c", said("tcp://h:2376", files, skip=skip))


def test_certificates_of_a_context(tmp_path: Path) -> None:
    make_certificates(tmp_path / "docker")
    found = read_context("c", said("tcp://h:2376", ["ca.pem", "cert.pem", "key.pem"], tmp_path))
    assert found.url == "tcp://h:2376"
    assert found.tls is not None
    assert found.tls.check_hostname


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=str(tmp_path)):
        read_context("c", said("tcp://h:2376", ["ca.pem", "cert.pem", "key.pem"], tmp_path))


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'[{"Endpoints": {}}]', b'[{"Endpoints": 5}]'])
def test_what_is_no_context(text: bytes) -> None:
    with pytest.raises(Invalid, match="context inspect c"):
        read_context("c", text)
