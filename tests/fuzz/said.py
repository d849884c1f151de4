"""What a node could say: any value of a message's types, and right messages with some values replaced by such."""

from __future__ import annotations

import types
import typing
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import Struct

from skep.model.container import DiscreteGenericResource, GenericResource, NamedGenericResource
from skep.model.node import EngineDescription, EnginePlugin, NodeDescription, NodeResources
from skep.model.spec import Platform
from skep.model.task import TaskAddress, TaskStatus
from skep.rpc import messages

INTS = [
    0,
    1,
    -1,
    192,
    512,
    704,
    800,
    1000,
    65536,
    2**31,
    2**32,
    2**53,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
    -(2**63),
]
FLOATS = [0.0, -0.0, 1.7e9, -1.0, 253402300799.0, 253402300800.0, 1e18, 1e308, -1e308]
TEXTS = [
    *("", " ", "a", "\0", "\n", "\x1b[2J", "\u202e", "é", "😀", "a" * 300, "a" * 20_000, "../../etc/passwd", "-o", "$(x)"),
    *("{{.Service.Name}}", "10.11.0.7/24", "10.11.0.0/24", "10.11.0.255/24", "10.12.0.7/24", "::1/128", "10.11.0.7/99"),
    *("10.11.0.7", "256.0.0.1", "fe80::1%eth0/64", "127.0.0.1:2377", "[::1]:1", ":2377", "a:0", "9" * 400, "active"),
]  # fmt: skip


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Returns a strategy for values that such a field is decoded to."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return values(inner[0])
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values(each) for each in inner])
    if origin is list:
        return st.lists(values(inner[0]), max_size=4)
    if origin is dict:
        return st.dictionaries(values(inner[0]), values(inner[1]), max_size=4)
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(values(inner[0]), max_size=4).map(tuple)
    if origin is tuple:
        return st.tuples(*(values(each) for each in inner))
    if isinstance(kind, type) and issubclass(kind, Struct):
        hints = typing.get_type_hints(kind, include_extras=True)
        return st.builds(kind, **{name: values(hints[name]) for name in kind.__struct_fields__})
    return {
        int: st.one_of(st.sampled_from(INTS), st.integers(-(2**63), 2**64 - 1)),
        float: st.one_of(st.sampled_from(FLOATS), st.floats()),
        str: st.one_of(st.sampled_from(TEXTS), st.text(max_size=20)),
        bytes: st.binary(max_size=50),
        bool: st.booleans(),
        type(None): st.none(),
    }[kind]


def right(task_id: str, network_id: str, request_pem: bytes) -> list[messages.FromAgent]:
    """Returns messages that a good node could send, of things that are there."""
    described = NodeDescription(
        hostname="w",
        platform=Platform(architecture="x86_64", os="linux"),
        resources=NodeResources(
            nano_cpus=4 * 10**9,
            memory_bytes=8 << 30,
            generic_resources=[
                GenericResource(named_resource_spec=NamedGenericResource(kind="gpu", value="u1")),
                GenericResource(discrete_resource_spec=DiscreteGenericResource(kind="ssd", value=3)),
            ],
        ),
        engine=EngineDescription(
            engine_version="1", labels={"a": "b"}, plugins=[EnginePlugin(type="Log", name="json-file")]
        ),
    )
    status = TaskStatus(512, 1.7e9, "m", "e", "c", 1, 0, (("tcp", 80, 30000),), 1.7e9)
    return [
        messages.Register(described, "127.0.0.1:2377", ["logs", "attach"]),
        messages.Described(described),
        messages.Statuses([(task_id, status)]),
        messages.HasAddresses([TaskAddress(network_id, "10.11.0.7/24", "10.11.0.2/24")]),
        messages.Attach(1, network_id, "10.11.0.9"),
        messages.HasTls("a", "b"),
        messages.Manage("127.0.0.1:2377"),
        messages.Renew(request_pem),
    ]


def changed(message: Struct) -> st.SearchStrategy[Any]:
    """Returns a strategy for the message with one of its values, somewhere within, replaced."""
    return st.one_of([_changed_at(message, path, kind) for path, kind in _leaves(message)])


def _changed_at(message: Struct, path: tuple[Any, ...], kind: Any) -> st.SearchStrategy[Any]:
    return values(kind).map(lambda value: _with(message, path, value))


def _leaves(value: Any, kind: Any = None, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    found = [(path, kind)] if kind is not None and not isinstance(value, Struct) else []
    if isinstance(value, Struct):
        hints = typing.get_type_hints(type(value), include_extras=True)
        for name in value.__struct_fields__:
            found += _leaves(getattr(value, name), hints[name], (*path, name))
    elif isinstance(value, list | tuple):
        inner = typing.get_args(kind)
        for n, each in enumerate(value):
            is_alike = typing.get_origin(kind) is list or inner[-1] is Ellipsis
            found += _leaves(each, inner[0] if is_alike else inner[n], (*path, n))
    return found


def _with(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    first, rest = path[0], path[1:]
    if isinstance(value, Struct):
        return msgspec.structs.replace(value, **{first: _with(getattr(value, first), rest, new)})
    return type(value)(_with(each, rest, new) if n == first else each for n, each in enumerate(value))


def any_of(union: Any) -> st.SearchStrategy[Any]:
    """Returns a strategy for any message."""
    return st.one_of([values(each) for each in typing.get_args(union)])
