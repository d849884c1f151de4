"""Which answers a later write mends. The texts are InfluxDB 1.6.7's own, where there are some."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from skep.monitor.influx.verdict import (
    MEND_S,
    PAUSE_MAX_S,
    RETRY_AFTER_MAX_S,
    Dropped,
    RetryAt,
    TooMuch,
    WriteAnswer,
    Written,
    asked_pause_s,
    decide,
)

NOW = 1_796_000_000.0


def decided(status: int, text: str = "", after: str = "", failures: int = 0, chance: float = 1.0) -> object:
    return decide(WriteAnswer(status, text, after), failures, NOW, chance)


def test_taken() -> None:
    assert decided(204) == Written()
    assert decided(200) == Written()


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, "partial write: unable to parse 'm n=': missing field value dropped=0"),
        (
            400,
            'partial write: field type conflict: input field "n" on measurement "m" is type float dropped=1',
        ),
        (422, "failure writing points to database: partial write: points beyond retention policy dropped=1"),
        (422, "unprocessable entity"),
        (500, "retention policy not found: x"),
        (501, ""),
        (301, "it sends us to https://influx: is the --url right?"),
        (405, ""),
        (418, ""),
    ],
)
def test_refused_for_good_with_the_servers_words(status: int, text: str) -> None:
    assert decided(status, text) == Dropped(f"{status}: {text}" if text else f"it answers {status}")


@pytest.mark.parametrize("status", [0, 408, 425, 429, 500, 502, 503, 504])
def test_what_waiting_may_mend_is_waited_for_longer_each_time(status: int) -> None:
    pauses = []
    for failures in range(40):
        verdict = decided(status, "why", failures=failures)
        assert isinstance(verdict, RetryAt)
        pauses.append(verdict.at_s - NOW)
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == PAUSE_MAX_S


def test_chance_spreads_those_who_come_back() -> None:
    lowest, highest = decided(503, failures=3, chance=0.0), decided(503, failures=3, chance=1.0)
    assert isinstance(lowest, RetryAt)
    assert isinstance(highest, RetryAt)
    assert (lowest.at_s - NOW, highest.at_s - NOW) == (4.0, 8.0)


@pytest.mark.parametrize(
    ("status", "words"), [(401, "does not take the token"), (403, "may not write"), (404, "no such database")]
)
def test_what_somebody_must_mend_is_kept_and_tried_now_and_then(status: int, words: str) -> None:
    verdict = decided(status, 'database not found: "x"')
    assert isinstance(verdict, RetryAt)
    assert verdict.at_s == NOW + MEND_S
    assert words in verdict.why
    assert 'database not found: "x"' in verdict.why


def test_the_server_may_ask_for_a_pause() -> None:
    verdict = decided(429, "", "17")
    assert isinstance(verdict, RetryAt)
    assert verdict.at_s == NOW + 17
    shorter = decided(503, "", "1", failures=10)
    assert isinstance(shorter, RetryAt)
    assert shorter.at_s == NOW + PAUSE_MAX_S  # not sooner than it would be tried otherwise


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0.0),
        ("5", 5.0),
        (" 5 ", 5.0),
        ("-5", 0.0),
        ("soon", 0.0),
        ("1e9", 0.0),
        ("٣", 0.0),
        ("9" * 400, RETRY_AFTER_MAX_S),
        (format_datetime(datetime.fromtimestamp(NOW + 30, UTC), usegmt=True), 30.0),
        (format_datetime(datetime.fromtimestamp(NOW - 30, UTC), usegmt=True), 0.0),
        ("Wed, 99 Foo 2026 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after(text: str, seconds: float) -> None:
    assert asked_pause_s(text, NOW) == seconds


def test_too_large_a_write_may_be_two() -> None:
    assert decided(413, "Request Entity Too Large") == TooMuch("413: Request Entity Too Large")


def test_a_servers_words_are_one_short_line() -> None:
    verdict = decided(400, "bad\n\x1b[31m" + "x" * 10_000)
    assert isinstance(verdict, Dropped)
    assert verdict.why.isprintable()
    assert len(verdict.why) < 600
