"""What tasks have put out, asked for here; it comes over connections of its own (`rpc.log_streams`)."""

from __future__ import annotations

from msgspec import Struct

from skep.model.logs import LogOptions

LOGS = "logs"  # a feature: the node understands `ReadLogs`


class ReadLogs(Struct, frozen=True, tag="read-logs"):
    """The node is to bring what these tasks have put out: (task id, since when, as `seconds.nanoseconds`).

    `id` is good for one connection; `window` is how many bytes may be under way.
    """

    id: str
    tasks: list[tuple[str, str]]
    options: LogOptions
    window: int
