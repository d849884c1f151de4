"""TLS by three files, as docker's own options name them: an authority, a certificate, its key."""

from __future__ import annotations

import ssl
from pathlib import Path

from skep.runtime.errors import Invalid


def server_context(ca: Path, cert: Path, key: Path) -> ssl.SSLContext:
    """Mutual TLS as `dockerd --tlsverify`. Errors: `Invalid`, which names the file."""
    return _context(ssl.PROTOCOL_TLS_SERVER, ca, cert, key)


def client_context(ca: Path, cert: Path, key: Path) -> ssl.SSLContext:
    """What `docker --tlsverify` does: the server's certificate and its name are verified. Errors: `Invalid`.

    As Go does, it takes certificates as Docker's guide and docker-machine make them, without a key identifier
    of their authority. `ssl.create_default_context` refuses them since Python 3.13 (VERIFY_X509_STRICT).
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, ca, cert, key)


def _context(protocol: int, ca: Path, cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    for file in (ca, cert, key):
        try:
            file.read_bytes()
        except OSError as error:
            raise Invalid(f"{file} cannot be read: {error.strerror}") from error
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(f"the certificate {cert} and key {key} cannot be used: {error}") from error
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(f"the CA certificate {ca} cannot be used: {error}") from error
    return context
