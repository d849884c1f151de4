"""Messages go to those who registered for their type."""

from __future__ import annotations

import pytest

from skep.rpc.messages import Heartbeat, Role
from skep.rpc.router import Router
from skep.runtime.errors import Invalid


def test_who_registered_first_hears_first() -> None:
    router, heard = Router[str](), list[tuple[str, str, object]]()
    router.on(Role, lambda node_id, role: heard.append(("first", node_id, role)))
    router.on(Role, lambda node_id, role: heard.append(("second", node_id, role)))
    role = Role("worker", False)
    assert router.route("n", role)
    assert heard == [("first", "n", role), ("second", "n", role)]


def test_what_nobody_takes_is_nobodys() -> None:
    router = Router[()]()
    router.on(Role, lambda role: pytest.fail("not this one"))
    assert not router.route(Heartbeat())


def test_who_comes_after_one_that_refuses_does_not_hear_it() -> None:
    router = Router[()]()

    def refuse(message: Heartbeat) -> None:
        raise Invalid("no")

    router.on(Heartbeat, refuse)
    router.on(Heartbeat, lambda message: pytest.fail("it was refused"))
    with pytest.raises(Invalid, match="no"):
        router.route(Heartbeat())
