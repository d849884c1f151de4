"""What is said to who opens the link, and to who has not: two small pages without anything of the swarm."""

from __future__ import annotations

WHAT_TO_DO = (
    "Open the link that skep dashboard has printed. Each link opens one browser, once: where yours was used"
    " already, the newest one it printed, or that of a new skep dashboard, opens this page."
)

# The browser goes on by itself, from a page of ours: a redirect would still count as of where the link was
# clicked, and then the cookie, which is for our pages only, would not be sent.
OPENED = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>skep</title>
<link rel="icon" href="/static/skep.svg" type="image/svg+xml">
<meta http-equiv="refresh" content="0;url=/"></head><body><p><a href="/">The swarm</a></p></body></html>
"""

NO_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>skep</title></head>
<body><p>This skep was installed without its page. What it would show:
<a href="/board">/board</a>, <a href="/api/nodes">/api/nodes</a>.</p></body></html>
"""
