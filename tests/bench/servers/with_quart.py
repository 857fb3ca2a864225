"""The same server by hand on Quart, trio and hypercorn: a raw client, and all lines that are ready in one send."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

from .arguments import read

if __name__ == "__main__":
    url = read()

import hypercorn.trio
import trio
from hypercorn.config import Config
from quart import Response, request, websocket
from quart_trio import QuartTrio

from .by_hand import SENTENCE_ENDS, WAV_HEADER_BYTES, audio_line, chat, encode, read_ask, read_delta, speech, text_line
from .raw_trio import Client

app = QuartTrio(__name__)
app.config["RESPONSE_TIMEOUT"] = None
running: dict[str, trio.CancelScope] = {}
models: Client


async def think(text: str, out: trio.MemorySendChannel[bytes], say: trio.MemorySendChannel[str]) -> None:
    sentence = ""
    with say:
        async with models.post("/api/chat", chat(text)) as chunks:
            async for some in chunks:
                for line in some:
                    content = read_delta(line).message.content
                    if not content:
                        continue
                    await out.send(text_line(content))
                    sentence += content
                    if content[-1] in SENTENCE_ENDS:
                        await say.send(sentence.strip())
                        sentence = ""
        if sentence.strip():
            await say.send(sentence.strip())


async def speak(sentences: trio.MemoryReceiveChannel[str], out: trio.MemorySendChannel[bytes]) -> None:
    async for sentence in sentences:
        skip = WAV_HEADER_BYTES
        async with models.post("/tts", speech(sentence)) as chunks:
            async for some in chunks:
                for piece in some:
                    if len(piece) > skip:
                        await out.send(audio_line(piece[skip:]))
                    skip = max(0, skip - len(piece))


async def turn(scope: trio.CancelScope, text: str, out: trio.MemorySendChannel[bytes]) -> None:
    with scope, out:
        async with trio.open_nursery() as nursery:
            say, sentences = trio.open_memory_channel[str](16)
            nursery.start_soon(think, text, out, say)
            nursery.start_soon(speak, sentences, out)


async def lines(ready: trio.MemoryReceiveChannel[bytes], user: str, scope: trio.CancelScope) -> AsyncIterator[bytes]:
    """What is ready, joined."""
    try:
        async for line in ready:
            found = [line]
            with suppress(trio.WouldBlock, trio.EndOfChannel):
                while True:
                    found.append(ready.receive_nowait())
            yield b"".join(found)
    finally:
        scope.cancel()
        if running.get(user) is scope:
            del running[user]


@app.post("/turns")
async def post_turn() -> Response:
    ask = read_ask(await request.get_data())
    if before := running.get(ask.user):
        before.cancel()
    scope = running[ask.user] = trio.CancelScope()
    out, ready = trio.open_memory_channel[bytes](64)
    app.nursery.start_soon(turn, scope, ask.input, out)
    response = Response(lines(ready, ask.user, scope), content_type="application/x-ndjson")
    response.timeout = None
    return response


@app.post("/interrupt")
async def post_interrupt() -> Response:
    scope = running.get((await request.get_json())["user"])
    if scope:
        scope.cancel()
    return Response(encode({"interrupted": scope is not None}), content_type="application/json")


@app.websocket("/ws")
async def converse() -> None:
    await websocket.accept()
    await websocket.send('{"type":"ready"}')
    while True:
        await websocket.send(await websocket.receive())


async def main(port: int) -> None:
    global models
    models = Client(port)
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        (bound,) = await nursery.start(partial(hypercorn.trio.serve, app, config))
        print(bound, flush=True)


if __name__ == "__main__":
    trio.run(main, int(url.rpartition(":")[2]))
