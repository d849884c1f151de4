"""What the agent makes of a manager that gives no address."""

from __future__ import annotations

import pytest

from skep.agent.attachments import _error
from skep.rpc.messages import NotAttached
from skep.runtime import errors
from skep.runtime.errors import Deposed, SkepError, Unavailable

KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, SkepError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_of_a_manager_is_the_same_here(kind: type[SkepError]) -> None:
    found = _error(NotAttached(1, kind.__name__, "why"))
    assert type(found) is kind
    assert str(found) == ("this manager no longer leads the swarm" if kind is Deposed else "why")


@pytest.mark.parametrize(
    "kind", ["", "EngineError", "OfALaterManager", "annotations", "__doc__", "ValueError"]
)
def test_what_is_not_known_may_be_tried_again(kind: str) -> None:
    found = _error(NotAttached(1, kind, "why"))
    assert (type(found), str(found)) == (Unavailable, "why")
