"""Secrets and configs as objects: what is taken, refused, shown and kept, in Docker's words."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from skep.manager.loading import load
from skep.model.material import ConfigSpec, Material, MaterialPayload
from skep.store import codec
from tests.api_process import Answer, Api, running_api

pytestmark = pytest.mark.real_time  # the API answers at a socket

DESC = "rpc error: code = InvalidArgument desc = "
DATA = base64.b64encode(b"hello").decode()


async def made(api: Api, kind: str, name: str, **fields: Any) -> str:
    answer = await api.ask("POST", f"/{kind}s/create", {"Name": name, "Data": DATA, **fields})
    assert answer.status == 201, answer.message
    return str(answer.json["ID"])


def service(name: str, secrets: list[Any] | None = None, configs: list[Any] | None = None) -> dict[str, Any]:
    container = {"Image": "x", "Secrets": secrets or [], "Configs": configs or []}
    return {
        "Name": name,
        "Mode": {"Replicated": {"Replicas": 0}},
        "TaskTemplate": {"ContainerSpec": container},
    }


def reference(kind: str, material_id: str, name: str, target: str = "t") -> dict[str, Any]:
    word = kind.title()
    return {f"{word}ID": material_id, f"{word}Name": name, "File": {"Name": target, "Mode": 292}}


@pytest.mark.parametrize("kind", ["secret", "config"])
async def test_life_of_one(kind: str) -> None:
    async with running_api() as api:
        feed = api.node.event_feed(False)
        one = await made(api, kind, "s1", Labels={"a": "b"}, Templating={"Name": "golang"})
        (listed,) = (await api.ask("GET", f"/{kind}s")).json
        assert listed["ID"] == one
        assert listed["Spec"]["Labels"] == {"a": "b"}
        assert listed["Spec"].get("Data") == (DATA if kind == "config" else None)
        assert listed["Spec"]["Templating"]["Name"] == "golang"
        for text in (one, "S1", one[:6]):
            assert (await api.ask("GET", f"/{kind}s/{text}")).json == listed
        again = await api.ask("POST", f"/{kind}s/create", {"Name": "S1", "Data": DATA})
        exists = f"rpc error: code = AlreadyExists desc = {kind} S1 already exists"
        assert (again.status, again.message) == (409, exists)

        path, version = f"/{kind}s/s1/update", listed["Version"]["Index"]
        assert (await api.ask("POST", path, {})).message == f"invalid {kind} version"
        only = DESC + "only updates to Labels are allowed"
        for wrong in ({"Name": "s2"}, {"Name": "s1", "Data": "b3RoZXI="}):
            refused = await api.ask("POST", f"{path}?version={version}", wrong)
            assert (refused.status, refused.message) == (400, only)
        same = {"Name": "s1", "Data": DATA, "Labels": {"c": "d"}}
        assert (await api.ask("POST", f"{path}?version={version}", same)).status == 200
        stale = await api.ask("POST", f"{path}?version={version}", same)
        assert (stale.status, stale.message) == (
            500,
            "rpc error: code = Unknown desc = update out of sequence",
        )
        assert (await api.ask("GET", f"/{kind}s/s1")).json["Spec"]["Labels"] == {"c": "d"}

        assert (await api.ask("DELETE", f"/{kind}s/s1")).status == 204
        gone = await api.ask("DELETE", f"/{kind}s/s1")
        assert (gone.status, gone.message) == (404, f"{kind} s1 not found")
        events = [await asyncio.wait_for(anext(feed), 5) for _ in range(3)]
        assert [(e.type, e.action, e.id, e.attributes) for e in events] == [
            (kind, action, one, {"name": "s1"}) for action in ("create", "update", "remove")
        ]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"Data": DATA}, DESC + "name must be provided"),
        ({"Name": "-x", "Data": DATA}, DESC + "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed"),
        ({"Name": "n" * 65, "Data": DATA}, DESC + "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed"),
        ({"Name": "x\n", "Data": DATA}, DESC + "invalid name"),
        ({"Name": "x"}, DESC + "secret data must be larger than 0 and less than 512000 bytes"),
        (
            {"Name": "x", "Data": base64.b64encode(b"x" * 512000).decode()},
            DESC + "secret data must be larger",
        ),
        ({"Name": "x", "Data": "not base64"}, "illegal base64 data at input byte 3"),
        ({"Name": "x", "Data": DATA, "Driver": {}}, DESC + "secret driver must have a name"),
        ({"Data": DATA, "Driver": {}}, DESC + "name must be provided"),
    ],
)
async def test_what_is_refused(body: dict[str, Any], says: str) -> None:
    async with running_api() as api:
        answer = await api.ask("POST", "/secrets/create", body)
        assert (answer.status, answer.message[: len(says)]) == (400, says)


async def test_a_driver_is_a_plugin_that_is_not_there() -> None:
    async with running_api() as api:
        answer = await api.ask("POST", "/secrets/create", {"Name": "x", "Driver": {"Name": "vault"}})
        says = 'rpc error: code = Unknown desc = plugin "vault" not found'
        assert (answer.status, answer.message) == (500, says)


async def test_filters() -> None:
    async with running_api() as api:
        for name in ("app", "apple", "pear"):
            for kind in ("secret", "config"):
                await made(api, kind, name, Labels={"of": name})

        async def names(kind: str, filters: str) -> Answer:
            return await api.ask("GET", f"/{kind}s?filters={filters}")

        found = await names("secret", "%7B%22name%22:%5B%22app%22%5D%7D")
        assert [each["Spec"]["Name"] for each in found.json] == ["app", "apple"]
        found = await names("secret", "%7B%22names%22:%5B%22app%22%5D%7D")
        assert [each["Spec"]["Name"] for each in found.json] == ["app"]
        found = await names("config", "%7B%22label%22:%5B%22of=pear%22%5D%7D")
        assert [each["Spec"]["Name"] for each in found.json] == ["pear"]
        for text, found_ones in (("of=", ["app", "apple", "pear"]), ("of=app", ["app"]), ("off=", [])):
            found = await names("secret", f"%7B%22label%22:%5B%22{text}%22%5D%7D")
            assert [each["Spec"]["Name"] for each in found.json] == found_ones
        refused = await names("config", "%7B%22names%22:%5B%22app%22%5D%7D")
        assert (refused.status, refused.message) == (400, "invalid filter 'names'")


@pytest.mark.parametrize("kind", ["secret", "config"])
async def test_references_of_services(kind: str) -> None:
    async with running_api() as api:
        one, field = await made(api, kind, "s1"), f"{kind}s"

        async def create(name: str, *given: dict[str, Any]) -> Answer:
            return await api.ask("POST", "/services/create", service(name, **{field: list(given)}))

        twice = (reference(kind, one, "s1"), reference(kind, one, "s1"))
        for given, says in (
            ((reference(kind, "nobody", "n"),), f"{DESC}{kind} not found: n"),
            ((reference(kind, one, "zz"),), f"{DESC}{kind} not found: zz"),
            ((reference(kind, "x", "a"), reference(kind, "y", "b", "u")), f"{DESC}{kind}s not found: a, b"),
            ((reference(kind, one, ""),), f"{DESC}malformed {kind} reference"),
            (twice, f"{DESC}{kind} references 's1' and 's1' have a conflicting target: 't'"),
        ):
            answer = await create("u", *given)
            assert (answer.status, answer.message) == (400, says)
        assert (await create("u", reference(kind, one, "s1"))).status == 201
        refused = await api.ask("DELETE", f"/{kind}s/s1")
        says = f"{DESC}{kind} 's1' is in use by the following service: u"
        assert (refused.status, refused.message) == (400, says)
        assert (await create("v", reference(kind, one, "s1"))).status == 201
        refused = await api.ask("DELETE", f"/{kind}s/s1")
        assert refused.message.endswith("is in use by the following services: u, v")
        for name in ("u", "v"):
            await api.ask("DELETE", f"/services/{name}")
        assert (await api.ask("DELETE", f"/{kind}s/s1")).status == 204


async def test_a_removal_and_a_new_user_at_once_leave_no_dangling_reference() -> None:
    async with running_api() as api:
        for n in range(10):
            one = await made(api, "secret", "s1")
            body = service(f"u{n}", secrets=[reference("secret", one, "s1")])
            created, removed = await asyncio.gather(
                api.ask("POST", "/services/create", body), api.ask("DELETE", "/secrets/s1")
            )
            assert (created.status == 201) != (removed.status == 204)
            await api.ask("DELETE", f"/services/u{n}")
            await api.ask("DELETE", "/secrets/s1")


async def test_a_new_leader_has_them() -> None:
    async with running_api() as api:
        one = await made(api, "secret", "s1")
        store = api.leader.materials._term.store
        view = await load(store)
        assert view.materials[one].spec.data == b"hello"
        assert view.material_ids["secret"] == {"s1": one}


def test_they_are_sealed_and_never_printed() -> None:
    spec = ConfigSpec(name="s1", data=b"very private")
    material = Material(kind="secret", id="i", spec=spec, created_at=0.0, updated_at=0.0)
    assert codec.is_sealed_key(codec.material_key("secret", "i"))
    assert codec.is_sealed_key(codec.material_key("config", "i"))
    assert b"very private" in codec.encode_object(material)
    for value in (spec, material, MaterialPayload("i", b"very private")):
        assert "private" not in repr(value)
