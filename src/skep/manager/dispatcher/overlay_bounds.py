"""When a network is large, and how much of a large one a node hears of. Pure."""

from __future__ import annotations

from msgspec import Struct

from .cutting import power_of_two


class Bounds(Struct, frozen=True):
    """Counts; tests have smaller ones."""

    # A small network is told whole, to all on it: 300 kB for each node, whose kernel has two neighbours for
    # each endpoint. Back to small it is told whole again, so that comes late.
    small_max: int = 3000
    small_again: int = 1500
    # Of a large network, a service of which so many serve is told whole; of a larger one each node hears a
    # part, with 33 to 128 that serve: connections of one client are spread over no more hosts than that. In
    # all a part has no more than a thousand, 50 kB: a service of very many may have few that serve.
    whole_max: int = 256
    part_max: int = 128
    part_max_in_all: int = 1024
    # What one node may have asked for, of one network. Services: a host's containers speak to some tens of
    # them. Single addresses: those of clients, whom the host answers; a bridge has 1,024 ports.
    services_max: int = 256
    addresses_max: int = 2048

    def is_large(self, endpoints: int, before: bool) -> bool:
        """Returns whether a network of so many is large; `before`: whether it was."""
        return endpoints > self.small_max or (before and endpoints >= self.small_again)

    def parts(self, endpoints: int, serving: int, before: int) -> int:
        """Returns in how many parts a service is told, a power of two: by those that take new connections, of
        which each part is to have some, and so many that none is too long. `before`: so far. A change of it
        has all that hear of the service told anew: it comes late on the way back."""
        least = power_of_two(endpoints, self.part_max_in_all)
        if before > 1 and before * self.part_max // 4 < serving <= before * self.part_max:
            wanted = before
        else:
            wanted = 1 if serving <= self.whole_max else power_of_two(serving, self.part_max)
        # One part is long enough for all of most services: it is not late on the way back to that.
        is_late = least > 1 and wanted <= least <= before <= 2 * least
        return before if is_late else max(wanted, least)
