"""What a node's kernel is to have so that published ports answer, and overlay networks are one across hosts:
pure above, thin drivers below.

told (`model.mesh`) + the host's own facts -> `desired` -> objects
objects that should be - objects that are  -> `diff`    -> changes
`netlink`, `nftables`, `iptables` read objects and carry changes out (`carrying`); `plane` puts them together
"""
