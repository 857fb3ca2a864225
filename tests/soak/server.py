"""The server under test: `python -m tests.soak.server CORE STUBS LEAK STORE`: presets, metrics, a store.

LEAK is how many KiB each sentence is to lose: more than 0 to see that the check sees it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..bench.servers.arguments import read

# What a backend may be silent for. One that talks nonsense may lose the end of an answer: that is waited for so long.
READ_S = 10.0

if __name__ == "__main__":
    url = read()

    import gc

    import trio
    from quart import Blueprint, request

    from ezflow import Latest, Module, Turn, module, resource, serve
    from ezflow.testing import FakeVAD
    from stdlib_modules.asr.openai import OpenAITranscription
    from stdlib_modules.llm.ollama import Ollama
    from stdlib_modules.text.sentences import Sentences
    from stdlib_modules.tts.gpt_sovits import GPTSoVITS

    @module
    class Counted(Module[str, str]):
        """Hands sentences on. `GET /inside` tells the process' tasks and memory blocks; `?clean=1`, without garbage."""

        leak_kib: int = 0
        lost: list[bytes] = resource()

        def routes(self) -> Blueprint:
            routes = Blueprint("inside", __name__)

            @routes.get("/inside")
            async def get_inside() -> str:
                if "clean" in request.args:
                    gc.collect()
                tasks = trio.lowlevel.current_statistics().tasks_living
                return f"{tasks} {sys.getallocatedblocks()}\n"

            return routes

        @asynccontextmanager
        async def lifespan(self) -> AsyncGenerator[None, None]:
            self.lost = []
            yield

        async def process(self, sentence: str, turn: Turn) -> str:
            if self.leak_kib:
                self.lost.append(b"\1" * 1024 * self.leak_kib)
            return sentence

    hearing = OpenAITranscription("soak", url=f"{url}/v1", api_key_env=None, max_connections=200, read_s=READ_S)
    model = Ollama("soak", url=url, max_connections=200, read_s=READ_S)
    voice = GPTSoVITS(
        ref_audio_path="voice.wav",
        prompt_text="hello",
        prompt_lang="en",
        url=url,
        max_connections=200,
        read_s=READ_S,
    )
    chat = model.shown() >> Sentences() >> Counted(leak_kib=int(sys.argv[3])) >> voice
    flows = {"chat": chat, "live": Latest(chat), "voice": hearing >> chat, "talk": FakeVAD() >> Latest(hearing >> chat)}
    # Sessions end soon, so that many begin and end; histories are full soon, so that what they take is bounded.
    serve(flows, port=0, metrics=True, idle_s=1.0, store=f"sqlite:///{sys.argv[4]}", history_messages=20)
