"""What is left out of a node's description: the node stays, and what remains may be said."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from skep.manager.dispatcher.refusals import PAUSE_S, REFUSALS_MAX, WINDOW_S, Refusals
from skep.model.bounds import NODE_DESCRIPTION_MAX_BYTES, NODE_DESCRIPTION_SAID_MAX_BYTES
from skep.model.node import EnginePlugin
from skep.model.spec import Platform
from skep.rpc import messages
from skep.rpc.description_checking import check_description
from skep.rpc.trimming import trimmed
from skep.runtime.errors import Invalid
from skep.runtime.ids import as_hostname, is_hostname
from skep.runtime.settings import load_settings
from tests.unit.rpc.test_checking import DESCRIBED, WRONG, described, engine, having, named

IMPOSSIBLE = {
    "2^63 CPUs",
    "CPUs below none",
    "2^63 bytes of memory",
    "memory below none",
    "2^62 of a kind",
    "less than none of a kind",
    "all too much",  # 100 kB and more
}
SAID = {
    name: said.description
    for name, (said, _) in WRONG.items()
    if isinstance(said, messages.Register) and said.description != DESCRIBED
}


def test_what_may_be_said_is_kept_as_it_is() -> None:
    assert trimmed(DESCRIBED) == (DESCRIBED, "")


@pytest.mark.parametrize("name", sorted(SAID.keys() - IMPOSSIBLE))
def test_what_is_left_may_be_said(name: str) -> None:
    kept, left_out = trimmed(SAID[name])
    check_description(kept)
    assert kept.resources.nano_cpus == DESCRIBED.resources.nano_cpus
    assert left_out.startswith("left out of its description: ")
    assert len(left_out) < 1000
    assert left_out.isprintable()
    assert trimmed(kept) == (kept, "")


@pytest.mark.parametrize("name", sorted(IMPOSSIBLE))
def test_what_no_machine_can_have_is_still_refused(name: str) -> None:
    with pytest.raises(Invalid):
        check_description(trimmed(SAID[name])[0])


def test_only_what_is_wrong_is_left_out() -> None:
    labels = {"a": "b", "two\nlines": "x", "long": "x" * 17_000, "last": "y"}
    plugins = [EnginePlugin(type="Log", name="json-file"), EnginePlugin(type="Log", name="a b")]
    said = engine(labels=labels, plugins=plugins).description
    kept, left_out = trimmed(replace(said, platform=Platform(architecture="x86_64", os="lin\x1b")))
    assert kept.engine.labels == {"a": "b", "last": "y"}
    assert kept.engine.plugins == plugins[:1]
    assert kept.platform == Platform(architecture="x86_64")
    assert kept.resources == DESCRIBED.resources
    assert "its OS is" in left_out
    assert left_out.endswith("; and 1 more")


@pytest.mark.parametrize(
    "said",
    [
        having(generic_resources=[named(f"gpu-{n:0100}") for n in range(400)]),
        engine(plugins=[EnginePlugin(type="Log", name=f"{n:0200}") for n in range(256)]),
        engine(labels={f"{n}": "" for n in range(16_000)}),
        described(
            resources=having(
                generic_resources=[named(f"g{n:050}") for n in range(200)]
            ).description.resources,
            engine=engine(labels={f"{n}": "x" * 100 for n in range(400)}).description.engine,
        ),
    ],
    ids=["resources", "plugins", "labels", "all"],
)
def test_there_is_as_much_as_there_is_room_for(said: messages.Register) -> None:
    assert len(messages.encode(said.description)) > NODE_DESCRIPTION_MAX_BYTES
    assert len(messages.encode(said.description)) <= NODE_DESCRIPTION_SAID_MAX_BYTES
    kept, left_out = trimmed(said.description)
    check_description(kept)
    assert "there is no room for" in left_out
    size = len(messages.encode(kept))
    assert NODE_DESCRIPTION_MAX_BYTES // 2 < size <= NODE_DESCRIPTION_MAX_BYTES


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("höst", "h-st"),
        ("host(1)", "host-1-"),
        ("-n", "n"),
        ("漢字", "unnamed"),
        ("a\nb", "a-b"),
        ("ok.x", "ok.x"),
    ],
)
def test_a_machine_is_shown_by_a_name_that_may_be_one(
    name: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert as_hostname(name) == shown
    assert is_hostname(shown)
    monkeypatch.setattr("socket.gethostname", lambda: name)
    assert load_settings({}, None, {}).hostname == shown, "the daemon starts there, too"


def test_who_is_refused_too_often_has_to_wait() -> None:
    refusals = Refusals()
    for n in range(REFUSALS_MAX):
        assert refusals.wait_s("n", 100.0 + n) == 0.0
        refusals.add("n", 100.0 + n)
    last = 100.0 + REFUSALS_MAX - 1
    assert refusals.wait_s("n", last + 1) == PAUSE_S - 1
    assert refusals.wait_s("other", last + 1) == 0.0
    assert refusals.wait_s("n", last + PAUSE_S) == 0.0
    refusals.add("n", last + PAUSE_S)
    assert refusals.wait_s("n", last + PAUSE_S) == 0.0, "it has all its chances again"
    refusals.forget("n")
    assert refusals.wait_s("n", last + PAUSE_S) == 0.0


def test_who_is_refused_now_and_then_need_not_wait() -> None:
    refusals = Refusals()
    for n in range(10):
        refusals.add("n", n * (WINDOW_S / 2 + 1))
        assert refusals.wait_s("n", n * (WINDOW_S / 2 + 1)) == 0.0
