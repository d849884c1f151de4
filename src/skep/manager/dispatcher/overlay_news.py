"""What nodes are told of a service on an overlay network: all of it, or what may have changed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from skep.model.overlay import OverlayEndpoint, OverlayService

GONE = 8  # so many addresses that are gone are as long as one endpoint, with its names

Endpoints = Mapping[str, OverlayEndpoint]  # by address


def whole(words: OverlayService, endpoints: Iterable[OverlayEndpoint]) -> OverlayService:
    """Returns all of it."""
    return replace(words, endpoints=tuple(endpoints))


def changed(words: OverlayService, addresses: Iterable[str], now: Endpoints) -> OverlayService:
    """Returns what is at these addresses now; all of it where that is not more. Who is told may know any of
    it already: it makes no difference."""
    addresses = list(addresses)
    news = [now[each] for each in addresses if each in now]
    gone = [each for each in addresses if each not in now]
    if 2 * (len(news) + len(gone) // GONE) > len(now):
        return whole(words, now.values())
    return replace(words, endpoints=tuple(news), gone=tuple(gone))


def moved(
    words: OverlayService, addresses: Iterable[str], before: Endpoints, now: Endpoints
) -> OverlayService:
    """Returns the same to who heard of one part of the service, and hears of another one from now on.
    `before`: the former part, as it would be now."""
    return changed(words, _other(set(addresses), before, now), now)


def _other(addresses: set[str], before: Endpoints, now: Endpoints) -> Iterator[str]:
    """Yields what has changed of both parts, and what is in one of them only."""
    yield from (each for each in before if each in addresses or each not in now)
    yield from (each for each in now if each not in before)
    yield from (each for each in addresses if each not in before and each not in now)
