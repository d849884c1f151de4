"""What is said of a trouble that lasts."""

from __future__ import annotations

from skep.monitor.saying import Trouble


def test_a_trouble_is_news_once() -> None:
    trouble = Trouble()
    assert trouble.over() == 0
    assert [trouble.is_news(text) for text in ("away", "away", "refused", "refused", "away")] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert trouble.over() == 5
    assert trouble.over() == 0
    assert trouble.is_news("away")
