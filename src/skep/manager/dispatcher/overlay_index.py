"""What services of one overlay network are found by: their names, aliases and own addresses. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from skep.model.overlay import OverlayService


class Index:
    """Names are in small letters. Several services may have one name, as an alias, and single
    containers."""

    def __init__(self) -> None:
        self._named: dict[str, dict[str, None]] = {}  # name -> services
        self._singles: dict[str, dict[str, None]] = {}  # name -> single containers
        self._vips: dict[str, str] = {}  # address -> service

    def add(self, words: OverlayService) -> None:
        for name in _names(words):
            self._of(words).setdefault(name, {})[words.id] = None
        if words.vip:
            self._vips[words.vip] = words.id

    def drop(self, words: OverlayService) -> None:
        of = self._of(words)
        for name in _names(words):
            found = of.get(name, {})
            found.pop(words.id, None)
            if not found:
                of.pop(name, None)
        if self._vips.get(words.vip) == words.id:  # or another service has it by now
            del self._vips[words.vip]

    def named(self, name: str) -> list[str]:
        """Returns the services with this name, by id."""
        return list(self._named.get(name, ()))

    def singles(self, name: str) -> list[str]:
        """Returns the single containers with this name, by id."""
        return list(self._singles.get(name, ()))

    def _of(self, words: OverlayService) -> dict[str, dict[str, None]]:
        return self._named if words.name else self._singles

    def with_vip(self, address: str) -> str:
        """Returns the service whose own address it is, by id; an empty text: nobody's."""
        return self._vips.get(address, "")


def _names(words: OverlayService) -> Iterator[str]:
    return (each.lower() for each in (words.name, *words.aliases) if each)
