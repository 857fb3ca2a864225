"""A flow in a terminal: `ezflow talk URL`, a server's, for a conversation; `ezflow run FILE`, in this process, once.

They play no sound; `--save` keeps it.
"""

from __future__ import annotations

from .conversation import Talk
from .display import Display
from .once import Once

__all__ = ["Display", "Once", "Talk"]
