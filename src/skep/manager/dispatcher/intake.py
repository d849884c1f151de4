"""The intake of the nodes' port: what an agent says is checked, and counted, before anybody acts upon it.

Who holds a worker's certificate may be anybody. What it says is one of our messages, makes sense
(`rpc.checking`), and is no more than a node can have to say; else its session ends with the reason.
"""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from skep.manager.rates import Rates
from skep.rpc import messages
from skep.rpc.checking import check
from skep.rpc.trimming import trimmed
from skep.runtime.errors import Invalid

# All but reports; ten heartbeats count as one, for many come at once to a leader that stood still, and ten
# questions about overlay networks, of which too many have no answer (`overlays`). A node with many containers
# on networks says two things for each that is made; the largest, a description, costs a millisecond.
MESSAGES_BURST, MESSAGES_PER_S = 200, 20
LITTLE = 0.1
# Of statuses: 100,000 tasks of one node are 15 MB, said at once when a session begins. Some thousand tasks
# that go through their states in a second are 1 MB; to take in 2 MB costs a tenth of the leader's time.
STATUSES_BURST_BYTES, STATUSES_BYTES_PER_S = 32 << 20, 2 << 20


class Intake:
    """Of one leader, for all its sessions: who comes again at once is no better off. Errors: `Invalid`."""

    def __init__(self) -> None:
        self._messages = Rates(MESSAGES_BURST, MESSAGES_PER_S)
        self._statuses = Rates(STATUSES_BURST_BYTES, STATUSES_BYTES_PER_S)

    def read(self, node_id: str, frame: bytes) -> tuple[messages.FromAgent | None, str]:
        """Returns what a node says, None for a report, which is not read yet (`check_statuses` it then); and
        what was left out of its description, if it says one."""
        now = asyncio.get_running_loop().time()
        if messages.is_statuses(frame):
            if not self._statuses.take(node_id, now, len(frame)):
                raise Invalid(f"it reports more than {STATUSES_BYTES_PER_S >> 20} MB a second of its tasks")
            return None, ""
        message = messages.decode_from_agent(frame)
        is_little = isinstance(message, messages.Heartbeat | messages.OverlayAsk)
        count = LITTLE if is_little else 1.0
        if not self._messages.take(node_id, now, count):
            raise Invalid(f"it says more than {MESSAGES_PER_S} things a second")
        left_out = ""
        if isinstance(message, messages.Register | messages.Described):
            description, left_out = trimmed(message.description)
            message = replace(message, description=description)
        check(message)
        return message, left_out
