"""Marks of connections and packets, by which the mesh knows its own: what nftables, iptables, netlink and
conntrack are told of them."""

from __future__ import annotations

OURS, OURS_MASK = 0x5A00_0000, 0xFF00_0000  # one of the mesh's
# … and by which node it came in; 0: this one. VXLAN's devices and engines use none of it.
NUMBER_MASK = 0xFFFF
TUNNELLED = OURS | 0x0001_0000  # a packet's: it came by the tunnel. No node's number, so of no rule's
# A connection's that IPVS leads to a task. Packets' own marks, by which IPVS knows its services, are small
# numbers, and none of these (`steering`).
STEERED = OURS | 0x0002_0000
SERVED = OURS | 0x0004_0000  # a connection's to a service's own address, not to a published port
FLOW = f"ct mark and {OURS_MASK:#x} == {OURS:#x}"  # nftables: of the mesh's connections
STEERED_FLOW = f"ct mark and {OURS_MASK | STEERED:#x} == {STEERED:#x}"  # … and of those IPVS's
