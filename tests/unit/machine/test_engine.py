"""What answers at a machine's port."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from skep.machine.engine import EngineAway, read_version
from skep.machine.record import EngineWish, Machine, SshPlace
from skep.runtime.errors import Unavailable

PLAIN = Machine(name="mg0", driver="generic", ssh=SshPlace(address="192.0.2.1"), engine=EngineWish())
SKEPD = replace(PLAIN, skepd=True)
ENGINES: dict[str, Any] = {"Platform": {"Name": ""}, "Components": [{"Name": "Engine"}], "Version": "28.5"}
BEFORE_IT: dict[str, Any] = {**ENGINES, "Platform": {"Name": "skep 0.1.0"}}


def test_a_version_is_the_engines() -> None:
    assert read_version(PLAIN, ENGINES) == "28.5"
    assert read_version(SKEPD, BEFORE_IT) == "28.5"


def test_skepd_alone_is_no_machine_that_works() -> None:
    with pytest.raises(EngineAway, match="its Docker Engine does not answer"):
        read_version(SKEPD, {**BEFORE_IT, "Components": [{"Name": "skep"}]})


def test_an_engine_at_the_port_that_is_skepds() -> None:
    with pytest.raises(Unavailable, match="and not skepd"):
        read_version(SKEPD, ENGINES)


@pytest.mark.parametrize("said", [None, [], {}, {"Version": "1"}, {"Platform": None}])
def test_what_is_no_engine_is_no_traceback(said: Any) -> None:
    with pytest.raises(Unavailable, match="is no Docker Engine"):
        read_version(SKEPD, said)
