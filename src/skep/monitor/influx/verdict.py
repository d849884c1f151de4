"""What an answer to a write means for what was written. Pure: time and randomness are arguments."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from msgspec import Struct

from skep.runtime.texts import printable

PAUSE_MIN_S = 1.0
PAUSE_MAX_S = 60.0  # longer than a restart of a database takes, short beside what the buffer holds
MEND_S = 10.0  # who has mended something looks whether it helped
RETRY_AFTER_MAX_S = 600.0  # a server that asks for more is asked all the same: the buffer would be full
WORDS_MAX_BYTES = 500  # of a server's, in a log

# What is refused for is not in the points: who mends the token, the right or the database has them written.
_MENDED_BY_SOMEBODY = {
    401: "it does not take the token, or the user and password",
    403: "the token or user may not write there",
    404: "it has no such database or bucket (--v1: --create makes it), or is no InfluxDB of this version",
}
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
# InfluxDB 1 says 500 of a retention policy that is missing, which no waiting brings back.
_PERMANENT_WORDS = ("retention policy not found",)


class WriteAnswer(Struct, frozen=True):
    """`status` is HTTP's, 0 where nothing was answered: `text` says why, otherwise what the server says.
    `retry_after` is the header's text."""

    status: int
    text: str = ""
    retry_after: str = ""


class Written(Struct, frozen=True):
    """All of it is in the database."""


class Dropped(Struct, frozen=True):
    """It is not, or not all of it, and the same write would end the same."""

    why: str


class RetryAt(Struct, frozen=True):
    """The same write may be taken at `at_s` (seconds since the epoch), not before."""

    at_s: float
    why: str


class TooMuch(Struct, frozen=True):
    """Its halves may be taken."""

    why: str


Verdict = Written | Dropped | RetryAt | TooMuch


def decide(answer: WriteAnswer, failures: int, now_s: float, chance: float) -> Verdict:
    """`failures`: how often the same write has failed before; `chance`: 0 to 1, so that those who were
    refused at one time do not come back at one time."""
    status, why = answer.status, _why(answer)
    if 200 <= status < 300:
        return Written()
    if status == 413:
        return TooMuch(why)
    if status in _MENDED_BY_SOMEBODY:
        return RetryAt(now_s + _spread(MEND_S, chance), f"{_MENDED_BY_SOMEBODY[status]} ({why})")
    is_temporary = status == 0 or status in _TEMPORARY
    if not is_temporary or any(words in answer.text for words in _PERMANENT_WORDS):
        return Dropped(why)
    pause_s = _spread(min(PAUSE_MIN_S * 2 ** min(failures, 16), PAUSE_MAX_S), chance)
    return RetryAt(now_s + max(pause_s, asked_pause_s(answer.retry_after, now_s)), why)


def asked_pause_s(retry_after: str, now_s: float) -> float:
    """Returns how long a `Retry-After` asks to wait: seconds, or a date; 0 where that cannot be read."""
    text = retry_after.strip()
    try:
        found = (
            float(text)
            if text.isascii() and text.isdigit()
            else parsedate_to_datetime(text).timestamp() - now_s
        )
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(found, 0.0), RETRY_AFTER_MAX_S)


def _spread(pause_s: float, chance: float) -> float:
    return pause_s * (0.5 + chance / 2)


def _why(answer: WriteAnswer) -> str:
    words = printable(answer.text, WORDS_MAX_BYTES).strip()
    if not answer.status:
        return words
    return f"{answer.status}: {words}" if words else f"it answers {answer.status}"
