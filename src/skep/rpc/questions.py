"""Questions under way on one line, and who waits for their answers. A line that is lost ends them at once."""

from __future__ import annotations

import asyncio
from typing import Protocol, TypeVar, cast

from skep.rpc import messages
from skep.rpc.interfaces import Connection
from skep.runtime.errors import SkepError, Unavailable

ANSWER_S = 10.0  # a certificate is signed in a millisecond, a commit takes some, a busy leader some seconds


class Refusal(Protocol):
    """A message that says no, instead of the answer."""

    def as_error(self) -> SkepError: ...


Answer = TypeVar("Answer")


class _Question:
    """One that is under way."""

    def __init__(self, kinds: tuple[type, ...], number: int) -> None:
        self.kinds = kinds
        self.number = number
        self.answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()


class Questions:
    """An answer belongs to the question with its number; where messages have none, to the oldest that waits
    for its type: a line keeps their order."""

    def __init__(self) -> None:
        self._open: list[_Question] = []

    async def ask(
        self,
        connection: Connection,
        asked: messages.FromAgent,
        answer: type[Answer],
        refusal: type[Refusal] | None = None,
    ) -> Answer:
        """Returns the other end's answer. Errors: `Unavailable` where none comes within `ANSWER_S`, or the
        line is lost (`end`); what the refusal says."""
        kinds = (answer,) if refusal is None else (answer, refusal)
        question = _Question(kinds, _number(asked))
        self._open.append(question)
        try:
            connection.send(messages.encode(asked))
            async with asyncio.timeout(ANSWER_S):
                found = await question.answer
        except TimeoutError as error:
            raise Unavailable(f"the manager did not answer within {ANSWER_S:.0f} s: try again") from error
        finally:
            self._open.remove(question)
        if isinstance(found, answer):
            return found
        raise cast("Refusal", found).as_error()

    def take(self, message: object) -> bool:
        """True where somebody waited for this message."""
        for question in self._open:
            is_its = isinstance(message, question.kinds) and _number(message) == question.number
            if is_its and not question.answer.done():
                question.answer.set_result(message)
                return True
        return False

    def end(self, reason: str) -> None:
        """The line is lost: nothing is answered any more."""
        for question in self._open:
            if not question.answer.done():
                question.answer.set_exception(Unavailable(reason))


def _number(message: object) -> int:
    return getattr(message, "number", 0)
