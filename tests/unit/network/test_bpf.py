"""Libraries that are other than what programs are loaded by: a host has the one of its release, or none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from skep.network import bpf
from skep.network.bpf import Bpf
from skep.network.fast_path_kernel import FastPaths
from skep.runtime.errors import Unavailable


def test_a_library_that_attaches_nothing_to_devices_is_said_to_be_too_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Debian 11's libbpf 0.3; here one that has none of the functions."""
    monkeypatch.setattr(bpf, "LIBRARIES", ("libc.so.6",))
    with pytest.raises(Unavailable, match=r"libc\.so\.6 is too old: it has no "):
        Bpf()
    assert not FastPaths().is_possible


def test_a_newer_library_is_taken_before_one_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "LIBRARIES", ("libnone.so.1", "libc.so.6"))
    with pytest.raises(Unavailable, match="too old"):
        Bpf()
    monkeypatch.setattr(bpf, "LIBRARIES", ("libnone.so.1",))
    with pytest.raises(Unavailable, match=r"libbpf1"):
        Bpf()


@pytest.mark.parametrize("answer", [None, 2**64 - 22, 2**64 - 4095])
def test_what_cannot_be_read_is_a_failure_in_words_of_all_libraries(answer: int | None) -> None:
    """Before libbpf 1.0 an error's number is in the place of the address."""

    def never(*_: object) -> int:
        raise AssertionError("an address that is none was used")

    made = Bpf.__new__(Bpf)
    made._library = SimpleNamespace(  # type: ignore[assignment]
        bpf_object__open_mem=lambda *_: answer, bpf_object__load=never, bpf_object__close=never
    )
    with pytest.raises(Unavailable, match="cannot be read"):
        made.load(b"not a program", ("one",))
