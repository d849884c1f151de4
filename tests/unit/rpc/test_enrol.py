"""What a node that joins takes from a manager, which may be anybody's."""

from __future__ import annotations

import pytest

from skep.api.interfaces import InitRequest
from skep.daemon.founding import found_swarm
from skep.rpc.enrol import _check
from skep.rpc.enrolment_messages import Enrolled
from skep.runtime.errors import Denied
from tests.unit.builders import new_ids

HOST = ("127.0.0.1", 2377)


def test_a_nodes_id_is_its_certificates() -> None:
    membership, keys, _ = found_swarm(InitRequest(), "mg0", HOST, HOST, 0.0, new_ids())
    answer = Enrolled(membership.node_id, keys.certificate_pem, "c", [])
    _check(answer)
    for node_id, certificate, says in (
        ("/etc", keys.certificate_pem, "an id that is none: '/etc'"),
        ("../victim", keys.certificate_pem, "an id that is none"),
        (membership.node_id + "\n", keys.certificate_pem, "an id that is none"),
        ("a" * 25, keys.certificate_pem, f"the certificate of '{membership.node_id}'"),
        (membership.node_id, b"nonsense", "no certificate"),
    ):
        with pytest.raises(Denied, match=says):
            _check(Enrolled(node_id, certificate, "c", []))
