from __future__ import annotations

import pytest

from skep.runtime.texts import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ä", "plain, ä"),
        ("a\nb\tc\x1b[31m red", "a b c [31m red"),
        ("\udcff", " "),
        ("äöüäöüäöü", "äöüäöüäö"),  # sixteen bytes
        ("aäöüäöüäöü", "aäöüäöüä"),  # and no half of a character
    ],
)
def test_what_others_say_is_one_line_of_so_many_bytes(text: str, shown: str) -> None:
    assert printable(text, 16) == shown
