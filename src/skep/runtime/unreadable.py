"""What msgspec raises for bytes that somebody else has sent, and that are not what they should be."""

from __future__ import annotations

import msgspec

# The others: for text that is not UTF-8, and for lists in lists without end.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
