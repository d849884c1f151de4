"""Truth and its view: etcd (or a simulated store) below, a frozen view in memory above."""
