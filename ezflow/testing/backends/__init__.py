"""Stand-ins for model servers: one loopback server per protocol, strict about what it is sent, with scripted faults.

    async with OllamaStandIn().serving() as server:
        flow = Ollama("qwen2.5", url=server.url)

For your own protocol derive from `StandIn`.
"""

from __future__ import annotations

from .ollama import OllamaStandIn
from .standin import Fault, Reply, Request, StandIn

__all__ = ["Fault", "OllamaStandIn", "Reply", "Request", "StandIn"]
