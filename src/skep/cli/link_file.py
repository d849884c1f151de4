"""A link that opens something once, handed to the user's browser where nobody else reads it.

What a program is started with everybody on the host can read (`ps`), and who is faster opens the link. So the
browser is given a file that only its user can read, and that leads there.
"""

from __future__ import annotations

import html
import tempfile
from pathlib import Path

from skep.runtime.errors import Invalid

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>skep</title>
<meta http-equiv="refresh" content="0;url={link}"></head>
<body><p><a href="{link}">The swarm</a></p></body></html>
"""


class LinkFile:
    """A file of this user's alone, until `remove`. It is made in `directory`: browsers that are kept in a
    sandbox see files of the home directory that are not hidden, and neither /tmp nor /run. Errors: `Invalid`
    where none can be made."""

    def __init__(self, link: str, directory: Path) -> None:
        try:
            with tempfile.NamedTemporaryFile(
                "w", prefix="skep-dashboard-", suffix=".html", dir=directory, delete=False
            ) as made:  # its mode is 0600
                self._path = Path(made.name).absolute()
                made.write(_PAGE.format(link=html.escape(link)))
        except OSError as error:
            raise Invalid(f"{directory}: {error.strerror or error}") from error

    @property
    def url(self) -> str:
        return self._path.as_uri()

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
