"""Combinators: flows made of flows, one a file."""
