"""What machines' hosts print, as it is shown beside that of others."""

from __future__ import annotations

from skep.cli.machine.reaching import LINE_BYTES_MAX, shown_lines


def test_a_host_writes_over_no_other_line() -> None:
    said = b"one\r\n\x1b[2J\x1b[1A(w2) fine\x07\n\n\ttab\n\xff\xc3\xbc"
    assert shown_lines(said) == ["one", " [2J [1A(w2) fine ", "", "        tab", "\ufffd\u00fc"]
    assert shown_lines(b"") == []
    assert shown_lines(b"\n") == []
    assert [len(each) for each in shown_lines(b"x" * 100_000)] == [LINE_BYTES_MAX]
