"""The server under test: `python -m tests.soak.server CORE STUBS LEAK`, ezflow's presets with metrics on.

LEAK is how many KiB each sentence is to lose: more than 0 to see that the check sees it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..bench.servers.arguments import read

if __name__ == "__main__":
    url = read()

    import trio
    from quart import Blueprint

    from ezflow import Latest, Module, Turn, module, resource, serve
    from stdlib_modules.llm.ollama import Ollama
    from stdlib_modules.text.sentences import Sentences
    from stdlib_modules.tts.gpt_sovits import GPTSoVITS

    @module
    class Counted(Module[str, str]):
        """Hands sentences on. `GET /tasks` tells how many tasks the process has."""

        leak_kib: int = 0
        lost: list[bytes] = resource()

        def routes(self) -> Blueprint:
            routes = Blueprint("tasks", __name__)

            @routes.get("/tasks")
            async def get_tasks() -> str:
                return f"tasks {trio.lowlevel.current_statistics().tasks_living}\n"

            return routes

        @asynccontextmanager
        async def lifespan(self) -> AsyncGenerator[None, None]:
            self.lost = []
            yield

        async def process(self, sentence: str, turn: Turn) -> str:
            if self.leak_kib:
                self.lost.append(b"\1" * 1024 * self.leak_kib)
            return sentence

    model = Ollama("soak", url=url, max_connections=200)
    voice = GPTSoVITS(ref_audio_path="voice.wav", prompt_text="hello", prompt_lang="en", url=url, max_connections=200)
    flow = model.shown() >> Sentences() >> Counted(leak_kib=int(sys.argv[3])) >> voice
    # Sessions end soon, so that many begin and end.
    serve({"chat": flow, "live": Latest(flow)}, port=0, metrics=True, idle_s=1.0)
