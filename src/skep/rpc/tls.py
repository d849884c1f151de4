"""TLS contexts of the managers' port: mutual TLS by the swarm's CA; nobody goes by host names."""

from __future__ import annotations

import contextlib
import functools
import os
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

from skep.rpc import standby
from skep.rpc.certificates import NodeKeys
from skep.runtime.errors import Corrupt, Unavailable

CAS_MAX = 2  # the swarm's and, while trust changes, the one before


def server_context(keys: NodeKeys) -> ssl.SSLContext:
    """For a manager. A client may come without a certificate: then it may only enrol."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, keys)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # sessions last for days: tickets would cost two signatures per handshake
    context.set_alpn_protocols([standby.PROTOCOL])  # who asks for nothing has a connection as ever
    return context


class ContextPool:
    """Client contexts that many nodes of one process take in turn: a context of each node's own costs a
    millisecond to make and 100 kB to keep. A connection keeps the certificate it was begun with."""

    def __init__(self) -> None:
        self._free: dict[tuple[bytes, bool], list[ssl.SSLContext]] = {}  # by CA and use, the latest last

    @contextlib.contextmanager
    def lend(self, keys: NodeKeys, is_standby: bool = False) -> Iterator[ssl.SSLContext]:
        """Gives a context with the node's certificate until the connection stands."""
        free = self._free.setdefault((keys.ca_pem, is_standby), [])
        if len(self._free) > 2 * CAS_MAX:
            del self._free[next(iter(self._free))]
        if free:
            context = free.pop()
            load_chain(context, keys)
        else:
            context = client_context(keys, is_standby)
        try:
            yield context
        finally:
            free.append(context)


def client_context(keys: NodeKeys, is_standby: bool = False) -> ssl.SSLContext:
    """For an agent: shows its certificate and takes only peers that the swarm's CA has signed. `is_standby`:
    for connections that are to wait."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, keys)
    if is_standby:
        context.set_alpn_protocols([standby.PROTOCOL])
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@functools.cache
def enrolment_context() -> ssl.SSLContext:
    """For a node that joins: the peer is checked against the token's digest after the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3  # both ends are skep
    return context


def _context(protocol: int, keys: NodeKeys) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3  # both ends are skep
    try:
        context.load_verify_locations(cadata=keys.ca_pem.decode())
    except (ssl.SSLError, ValueError) as error:
        raise Corrupt(f"the swarm's root certificate cannot be used: {error}") from error
    load_chain(context, keys)
    return context


def load_chain(context: ssl.SSLContext, keys: NodeKeys) -> None:
    """Gives a context the certificate it shows from now on. Errors: `Corrupt` where the key is another's,
    `Unavailable` where they cannot be handed over at the moment.

    The ssl module reads keys from files only: one in memory, where the system has it.
    """
    directory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    try:
        descriptor, name = tempfile.mkstemp(prefix="skep-", dir=directory)  # 0600
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(keys.certificate_pem + b"\n" + keys.key_pem)
            context.load_cert_chain(name)
        finally:
            Path(name).unlink(missing_ok=True)
    except ssl.SSLError as error:
        raise Corrupt(f"the node's certificate and key cannot be used together: {error}") from error
    except OSError as error:  # memory or disk is full: it may be tried again
        raise Unavailable(f"the node's certificate cannot be used at the moment: {error}") from error
