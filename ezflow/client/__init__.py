"""Clients of a server's flows: `Client` for programs on trio, `BlockingClient` for scripts.

    async with Client("http://127.0.0.1:3421", user="ann") as client:
        async for event in client.turn("How many legs does a spider have?", entry="local_llm"):
            match event:
                case Event(type="text", item=text):
                    print(text, end="")
                case Event(type="audio", item=sound):
                    player.play(sound.pcm, sound.rate_hz)

    with BlockingClient("http://127.0.0.1:3421", user="ann") as client:
        for event in client.turn("How many legs does a spider have?", entry="local_llm"):
            ...

The events are `ezflow.Event`s, as a session in the same process gives them. Needs `pip install "ezflow-trio[client]"`.
"""

from __future__ import annotations

from .blocking import BlockingClient, BlockingLive, BlockingTurn
from .client import Client
from .errors import ClientError, Closed, ConnectFailed, ProtocolError, Refused, Unread
from .live import Format, Live
from .reception import Received

__all__ = [
    "BlockingClient",
    "BlockingLive",
    "BlockingTurn",
    "Client",
    "ClientError",
    "Closed",
    "ConnectFailed",
    "Format",
    "Live",
    "ProtocolError",
    "Received",
    "Refused",
    "Unread",
]
