"""Who may look: a link that opens once, and what whoever opened it shows from then on. Pure.

As Jupyter has it, but that the link's token is worth one cookie, and nothing after that: who reads the link
later, in a history or over a shoulder, has nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from msgspec import Struct

VISITORS_MAX = 64  # browsers at one page: the one that came first has to open the link again

NewSecret = Callable[[], str]


class Visitor(Struct, frozen=True):
    """`cookie` is what its browser shows with each request, `csrf` what the page itself adds to an order."""

    cookie: str
    csrf: str


class Visitors:
    """`new_secret` makes texts that nobody guesses, for URLs and headers."""

    def __init__(self, new_secret: NewSecret) -> None:
        self._new_secret = new_secret
        self._known: dict[str, Visitor] = {}  # by cookie; who came first is first
        self.token = new_secret()

    def admit(self, token: str) -> Visitor | None:
        """Returns a new visitor for the token of the link, which is another one from now on; None where it is
        not this one."""
        if not _same(token, self.token):
            return None
        self.token = self._new_secret()
        if len(self._known) >= VISITORS_MAX:
            del self._known[next(iter(self._known))]
        visitor = Visitor(self._new_secret(), self._new_secret())
        self._known[visitor.cookie] = visitor
        return visitor

    def of(self, cookie: str) -> Visitor | None:
        """Returns whose cookie it is."""
        found = None
        for known in self._known.values():  # all of them: how long it takes tells nothing
            if _same(cookie, known.cookie):
                found = known
        return found


def may_order(visitor: Visitor, csrf: str) -> bool:
    """True where the page itself asks, and no other that the browser has open."""
    return _same(csrf, visitor.csrf)


def _same(given: str, right: str) -> bool:
    # A header may hold any bytes: those that are no text come as half characters.
    return hmac.compare_digest(given.encode(errors="surrogateescape"), right.encode())
