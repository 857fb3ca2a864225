"""The same server written by hand on FastAPI, uvicorn, uvloop and aiohttp."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from .arguments import read

if __name__ == "__main__":
    url = read()

import aiohttp
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from .by_hand import SENTENCE_ENDS, WAV_HEADER_BYTES, audio_line, chat, read_delta, speech, text_line

running: dict[str, asyncio.Task[None]] = {}
models: aiohttp.ClientSession


class Ask(BaseModel):
    user: str
    input: str


class Interrupt(BaseModel):
    user: str


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    global models
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector, timeout=aiohttp.ClientTimeout(None)) as models:
        yield


app = FastAPI(lifespan=lifespan)


async def think(text: str, out: asyncio.Queue[bytes | None], say: asyncio.Queue[str | None]) -> None:
    sentence = ""
    async with models.post("/api/chat", data=chat(text)) as reply:
        async for line in reply.content:
            content = read_delta(line).message.content
            if not content:
                continue
            await out.put(text_line(content))
            sentence += content
            if content[-1] in SENTENCE_ENDS:
                await say.put(sentence.strip())
                sentence = ""
    if sentence.strip():
        await say.put(sentence.strip())
    await say.put(None)


async def speak(sentences: asyncio.Queue[str | None], out: asyncio.Queue[bytes | None]) -> None:
    while (sentence := await sentences.get()) is not None:
        skip = WAV_HEADER_BYTES
        async with models.post("/tts", data=speech(sentence)) as reply:
            async for piece, _ in reply.content.iter_chunks():  # each as it was sent, however late this is
                if len(piece) > skip:
                    await out.put(audio_line(piece[skip:]))
                skip = max(0, skip - len(piece))


async def turn(text: str, out: asyncio.Queue[bytes | None]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            say: asyncio.Queue[str | None] = asyncio.Queue(16)
            group.create_task(think(text, out, say))
            group.create_task(speak(say, out))
    finally:
        try:
            out.put_nowait(None)
        except asyncio.QueueFull:
            out.get_nowait()
            out.put_nowait(None)


async def lines(user: str, text: str) -> AsyncIterator[bytes]:
    out: asyncio.Queue[bytes | None] = asyncio.Queue(64)
    if before := running.get(user):
        before.cancel()
    task = running[user] = asyncio.create_task(turn(text, out))
    try:
        while (line := await out.get()) is not None:
            yield line
        await task
    except asyncio.CancelledError:
        if not task.cancelled():
            raise
    finally:
        task.cancel()
        if running.get(user) is task:
            del running[user]


@app.post("/turns")
async def post_turn(ask: Ask) -> StreamingResponse:
    return StreamingResponse(lines(ask.user, ask.input), media_type="application/x-ndjson")


@app.post("/interrupt")
async def post_interrupt(ask: Interrupt) -> dict[str, bool]:
    task = running.get(ask.user)
    if task:
        task.cancel()
    return {"interrupted": task is not None}


@app.websocket("/ws")
async def converse(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text('{"type":"ready"}')
    with suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(await websocket.receive_text())


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, loop="uvloop", log_level="error", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])
