"""`ezflow talk URL`: a server's flow in a terminal. It plays no sound; `--save` keeps it."""

from __future__ import annotations

from .conversation import Talk

__all__ = ["Talk"]
