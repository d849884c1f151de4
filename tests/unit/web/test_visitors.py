"""The link opens one browser, once, and a browser shows its own cookie."""

from __future__ import annotations

from itertools import count

from skep.web.visitors import VISITORS_MAX, Visitors, may_order


def some_visitors() -> Visitors:
    numbers = count()
    return Visitors(lambda: f"secret{next(numbers)}")


def test_a_link_opens_once_and_there_is_another_one_then() -> None:
    visitors = some_visitors()
    token = visitors.token
    first = visitors.admit(token)
    assert first is not None
    assert visitors.of(first.cookie) == first
    assert visitors.admit(token) is None
    assert visitors.token != token
    second = visitors.admit(visitors.token)
    assert second is not None
    assert {first.cookie, first.csrf}.isdisjoint({second.cookie, second.csrf})
    assert visitors.of(first.cookie) == first


def test_nothing_and_what_is_no_ascii_opens_nothing() -> None:
    visitors = some_visitors()
    assert visitors.admit("") is None
    assert visitors.admit("sécret0") is None
    assert visitors.of("") is None
    assert visitors.token == "secret0", "the link is good still"


def test_an_order_needs_the_token_of_its_own_visitor() -> None:
    visitors = some_visitors()
    one, other = visitors.admit(visitors.token), visitors.admit(visitors.token)
    assert one is not None
    assert other is not None
    assert may_order(one, one.csrf)
    assert not may_order(one, other.csrf)
    assert not may_order(one, one.cookie)
    assert not may_order(one, "")


def test_there_are_so_many_browsers_at_most() -> None:
    visitors = some_visitors()
    came = [visitors.admit(visitors.token) for _ in range(VISITORS_MAX + 1)]
    known = [each for each in came if each is not None and visitors.of(each.cookie) is not None]
    assert known == came[1:], "the first one has to open the link again"
