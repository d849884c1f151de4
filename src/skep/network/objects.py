"""What the kernel holds for the mesh and its networks, each object as a value: wanted ones and found ones
are compared.

`key` names an object among those of its kind: what is wanted under a key replaces what is found there.
None refers to another one, so that the garbage collector need not look through them (`gc`): a node has
thousands, and with them it took a tenth of what making them all does.
"""

from __future__ import annotations

import hashlib

from msgspec import Struct

from skep.model.mesh import BRIDGE_PREFIX

TABLE = "skep"  # nftables' table, of family ip; all in it is ours
PORTS = "ports"  # its map: (protocol, port) -> the service's chain
VIPS = "vips"  # its map: a service's own address on a network -> its chain
FWMARKS = "fwmarks"  # its map: (protocol, port) -> the mark by which IPVS knows the service
PORT_KINDS, VIP = ("tcp", "udp"), "vip"  # what bytes are counted of
BYTES = {kind: f"{kind}-bytes" for kind in (*PORT_KINDS, VIP)}  # its sets: (direction, port or address)


class _Named(Struct, frozen=True, gc=False):
    name: str

    @property
    def key(self) -> str:
        return self.name


class Bridge(_Named, frozen=True, gc=False):
    """A network's bridge on this node. The engine's network of the same name uses it."""

    mac: str
    mtu: int
    is_up: bool = True


class Tunnel(_Named, frozen=True, gc=False):
    """A network's VXLAN device, a port of its bridge. `tells_misses`: the kernel says which addresses are
    asked for in vain (`misses`)."""

    bridge: str
    vni: int
    local: str
    data_port: int
    mtu: int
    is_up: bool = True
    tells_misses: bool = False


class EspPolicy(Struct, frozen=True, gc=False):
    """That what this host sends from its address to the UDP port, or takes there (`direction`: out, in), goes
    by ESP or not at all."""

    direction: str
    address: str
    port: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.direction, self.address, self.port


class EspState(Struct, frozen=True, gc=False):
    """A security association: how ESP packets of one host to another are encrypted. `spi` is its number on
    the wire. The secret is what is wanted: of one that is found it is not read."""

    source: str
    to: str
    spi: int
    secret: bytes = b""

    @property
    def key(self) -> tuple[str, str, int]:
        return self.source, self.to, self.spi

    def __repr__(self) -> str:
        """Whatever prints it (a log, a trace) shows no secret."""
        return f"EspState({self.source} to {self.to}, {self.spi:#x})"


class Port(_Named, frozen=True, gc=False):
    """A container's place on a bridge. The engine puts it there and takes it away; who deletes a bridge
    leaves it nowhere."""

    bridge: str


class Gateway(Struct, frozen=True, gc=False):
    """An address that the engine gave a bridge, with its prefix length; lost with the bridge."""

    bridge: str
    address: str

    @property
    def key(self) -> tuple[str, str]:
        return self.bridge, self.address


class Hairpin(Struct, frozen=True, gc=False):
    """That a bridge's port sends back to it what comes from it: a task may be led to itself. `br_netfilter`
    has the bridge look for the task where else this host does. Goes with its port."""

    port: str

    @property
    def key(self) -> str:
        return self.port


class Filtered(Struct, frozen=True, gc=False):
    """That what goes from port to port of a bridge passes the rules of IPv4, too: with `br_netfilter`. Goes
    with its bridge."""

    bridge: str

    @property
    def key(self) -> str:
        return self.bridge


class Sysctl(Struct, frozen=True, gc=False):
    """`path` is below /proc/sys/net. Never taken back: a device's go with it."""

    path: str
    value: str

    @property
    def key(self) -> str:
        return self.path


class SubnetRoute(Struct, frozen=True, gc=False):
    """The way to a network's addresses, also where the bridge has no address of its own."""

    subnet: str
    bridge: str

    @property
    def key(self) -> str:
        return self.subnet


class Neighbour(Struct, frozen=True, gc=False):
    """Who has an address. On a bridge: whom this host hands packets for it. On a tunnel: what containers are
    answered that ask who has it."""

    device: str
    address: str
    mac: str

    @property
    def key(self) -> tuple[str, str]:
        return self.device, self.address


class Forward(Struct, frozen=True, gc=False):
    """At which node a tunnel leads to a MAC address: the tunnel's own table."""

    tunnel: str
    mac: str
    remote: str

    @property
    def key(self) -> tuple[str, str]:
        return self.tunnel, self.mac


class PortForward(Struct, frozen=True, gc=False):
    """That a MAC address is behind the tunnel: the bridge's table."""

    tunnel: str
    mac: str

    @property
    def key(self) -> tuple[str, str]:
        return self.tunnel, self.mac


class ReturnRoute(Struct, frozen=True, gc=False):
    """Where answers go whose connection came in by another node: `number` names that node in marks, here
    only; its table has this one route."""

    number: int
    via: str
    bridge: str

    @property
    def key(self) -> int:
        return self.number


class ReturnRule(Struct, frozen=True, gc=False):
    """Packets with such a mark take a table, or go on at the rules of another priority (`goto`)."""

    priority: int
    mark: int
    mask: int
    table: int = 0
    goto: int = 0

    @property
    def key(self) -> tuple[int, ...]:
        return self.priority, self.mark, self.mask, self.table, self.goto


class Accept(Struct, frozen=True, gc=False):
    """The one rule of ours in iptables: in this chain, packets of connections to the mesh's tasks are
    accepted. A verdict of our own table cannot keep the engine's rules from dropping them."""

    chain: str
    subnet: str

    @property
    def key(self) -> str:
        return self.chain


class Trusted(Struct, frozen=True, gc=False):
    """That firewalld lets pass what comes from our bridges, all of them: they are in a zone."""

    @property
    def key(self) -> str:
        return f"{BRIDGE_PREFIX}+"


class VirtualService(Struct, frozen=True, gc=False):
    """A service of IPVS's: it takes packets by their firewall mark, and leads connections to its real servers
    in turn."""

    mark: int
    scheduler: str = "rr"

    @property
    def key(self) -> int:
        return self.mark


class RealServer(Struct, frozen=True, gc=False):
    """A task that a service of IPVS's leads to. Of weight 0 it gets nothing new, and keeps what it has."""

    mark: int
    address: str
    port: int
    weight: int = 1

    @property
    def key(self) -> tuple[int, str, int]:
        return self.mark, self.address, self.port


class Table(_Named, frozen=True, gc=False):
    name: str = TABLE


class ChainCounter(_Named, frozen=True, gc=False):
    """How many connections a chain has led to tasks. It has the chain's name, and outlives its rules:
    `packets`, the first ones of connections, and their `octets` are what is found, and nothing that is
    wanted."""

    packets: int = 0
    octets: int = 0


class Traffic(Struct, frozen=True, gc=False):
    """How many bytes came from clients, after connections' first packets, and how many went to them. `kind`
    is a protocol, and `of` a published port; or `VIP`, and a service's own address. Two elements of one of
    nftables' sets, which outlive rules: it `is_whole` where both are there. What was counted is found, and
    nothing that is wanted."""

    kind: str
    of: str
    received: int = 0
    sent: int = 0
    is_whole: bool = True

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.of


class Chain(_Named, frozen=True, gc=False):
    """`hook` as nftables lists it (type, hook, priority); empty for one that others go to. `stamps` are
    comments of its rules, by which a rule that is found is known again: how nftables writes a rule differs
    from release to release. `rules` are the texts, of wanted ones only."""

    hook: tuple[str, str, int] | None
    stamps: tuple[str, ...]
    rules: tuple[str, ...] = ()


def vip_chain(vip: str) -> str:
    """Returns the name of the chain that leads to a service's own address, and of its counter."""
    return f"vip-{vip.replace('.', '-')}"


class PortJump(Struct, frozen=True, gc=False):
    """Connections to this port of the host go through that chain."""

    protocol: str
    port: int
    chain: str

    @property
    def key(self) -> tuple[str, int]:
        return self.protocol, self.port


class FirewallMark(Struct, frozen=True, gc=False):
    """What packets to this port of the host are marked with, where IPVS leads their connections."""

    protocol: str
    port: int
    mark: int

    @property
    def key(self) -> tuple[str, int]:
        return self.protocol, self.port


class VipJump(Struct, frozen=True, gc=False):
    """Connections to this address of a network go through that chain."""

    address: str
    chain: str

    @property
    def key(self) -> str:
        return self.address


class FastTunnel(Struct, frozen=True, gc=False):
    """A tunnel whose packets may take the fast path. `is_known`: by this skep's program."""

    tunnel: str
    is_known: bool = True

    @property
    def key(self) -> str:
        return self.tunnel


class FastPort(Struct, frozen=True, gc=False):
    """A container's port whose packets may take the fast path of its network: by this tunnel, to what is
    elsewhere in the subnet. `mac` is the bridge's, `own` the host's address there; empty for none."""

    port: str
    bridge: str
    tunnel: str
    mac: str
    subnet: str
    own: str = ""

    @property
    def key(self) -> str:
        return self.port


class FastService(Struct, frozen=True, gc=False):
    """A service's own address, and the tasks to which the fast path leads who asks for it, in turn, from the
    `first` on. None: the rules lead, or refuse."""

    vip: str
    tasks: tuple[str, ...]
    first: int = 0

    @property
    def key(self) -> str:
        return self.vip


# What comes first is what the others stand on; away, they go the other way round (`network.diff`). Rules are
# last: no packet is sent where there is no way yet.
# What encrypts comes before the tunnels whose packets must not leave plain.
Object = (
    EspState
    | EspPolicy
    | Bridge
    | Tunnel
    | Port
    | Gateway
    | Hairpin
    | Filtered
    | Sysctl
    | SubnetRoute
    | PortForward
    | Forward
    | Neighbour
    | ReturnRoute
    | ReturnRule
    | Accept
    | Trusted
    | VirtualService
    | RealServer
    | Table
    | ChainCounter
    | Traffic
    | FirewallMark
    | Chain
    | PortJump
    | VipJump
    | FastTunnel
    | FastPort
    | FastService
)


def chain(name: str, rules: list[str], hook: tuple[str, str, int] | None = None) -> Chain:
    """Returns a chain that is wanted, its rules with their stamps."""
    stamps = tuple(hashlib.blake2s(rule.encode(), digest_size=8).hexdigest() for rule in rules)
    return Chain(name, hook, stamps, tuple(rules))
