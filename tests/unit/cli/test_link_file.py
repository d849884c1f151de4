"""The dashboard's link on its way to the browser: everybody reads what programs are started with."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from skep.cli.link_file import LinkFile
from skep.runtime.errors import Invalid

LINK = "http://127.0.0.1:41003/open?token=sEcrEt&x=1"


def test_the_browser_is_started_without_the_token(tmp_path: Path) -> None:
    file = LinkFile(LINK, tmp_path)
    assert "sEcrEt" not in file.url
    (made,) = tmp_path.iterdir()
    assert Path(unquote(urlsplit(file.url).path)) == made
    assert made.stat().st_mode & 0o777 == 0o600
    assert 'url=http://127.0.0.1:41003/open?token=sEcrEt&amp;x=1"' in made.read_text()
    file.remove()
    file.remove()
    assert not list(tmp_path.iterdir())


def test_a_directory_that_takes_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"nowhere: No such file"):
        LinkFile(LINK, tmp_path / "nowhere")
