"""Stand-ins for model servers: one loopback server per protocol, strict about what it is sent, with scripted faults.

    async with OllamaStandIn().serving() as server:
        flow = Ollama("qwen2.5", url=server.url)

For your own protocol derive from `StandIn`.
"""

from __future__ import annotations

from .dify import DifyStandIn
from .doubao import DouBaoStandIn, DouBaoStreamStandIn
from .funasr import FunASRStandIn
from .gpt_sovits import GPTSoVITSStandIn
from .livetalking import LiveTalkingStandIn
from .ollama import OllamaStandIn
from .openai import OpenAIStandIn
from .standin import Fault, Reply, Request, StandIn

__all__ = [
    "DifyStandIn",
    "DouBaoStandIn",
    "DouBaoStreamStandIn",
    "Fault",
    "FunASRStandIn",
    "GPTSoVITSStandIn",
    "LiveTalkingStandIn",
    "OllamaStandIn",
    "OpenAIStandIn",
    "Reply",
    "Request",
    "StandIn",
]
