"""What the server of names keeps of containers."""

from __future__ import annotations

from skep.network.dns_server import NAMED_MAX, DnsServer
from skep.network.names import Names


def test_nameservers_of_containers_of_long_ago_are_forgotten() -> None:
    server = DnsServer(Names())
    for number in range(NAMED_MAX + 10):
        server.ask_for(f"a{number}", ("192.0.2.1",))
        server.ask_for("a0", ("192.0.2.2",))
    kept = server._servers
    assert len(kept) == NAMED_MAX
    assert kept["a0"] == ("192.0.2.2",), "who was named last stays"
    server.ask_for("a0", ())
    assert "a0" not in kept
