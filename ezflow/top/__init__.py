"""`ezflow top URL`: what a server is doing, on a terminal."""

from __future__ import annotations

from .watching import Top

__all__ = ["Top"]
