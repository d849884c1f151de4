"""Deciders: what tasks there should be. Pure functions over the view; the reconcile loop performs them."""
