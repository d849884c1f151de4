"""Docker contexts of machines, made by a docker client that keeps the descriptions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skep.machine.contexts import make_context, remove_context
from skep.machine.record import EngineWish, Machine, SshPlace
from skep.runtime.errors import Conflict

pytestmark = pytest.mark.real_time
DOCKER = """#!/bin/sh
cd "$(dirname "$0")/contexts" || exit
case "$2" in
inspect)
    [ -e "$3" ] || { echo "context \\"$3\\" does not exist" >&2; exit 1; }
    printf '[{"Name": "%s", "Metadata": {"Description": "%s"}, "Endpoints": {}}]' "$3" "$(cat "$3")" ;;
create | update) printf %s "$5" >"$3" ;;
rm) rm "$4" ;;
esac
"""


async def test_the_context_of_another_stores_machine_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "contexts").mkdir()
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    machine = Machine(name="mg0", driver="generic", ssh=SshPlace(address="h"), engine=EngineWish())
    own, other = Path("/own/machines/mg0"), Path("/tried/machines/mg0")
    await make_context(machine, own)
    await make_context(machine, own)
    with pytest.raises(Conflict, match="a docker context mg0 already"):
        await make_context(machine, other)
    assert not await remove_context("mg0", other)
    assert (tmp_path / "contexts/mg0").exists()
    assert await remove_context("mg0", own)
    assert not (tmp_path / "contexts/mg0").exists()
