"""`LocalLLM`: a language model in this process, llama.cpp behind a loopback port of its own."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any

import attrs
import trio

from ezflow import Module, Turn, module, resource
from ezflow.weights import require

from ..http.client import HTTPClient
from ..http.errors import BackendRefused
from ..text.think import Thought
from .chat import LLMError, LLMOptions, completion, messages, prompt_bytes, recent, too_long

__all__ = ["SYSTEM_PROMPT", "LLMError", "LLMOptions", "LocalLLM"]

# The examples carry the style to a small model better than rules do, and it knows more facts after them.
SYSTEM_PROMPT = """\
You are a voice assistant. Your answers are read aloud: answer in one or two short, plain sentences, \
without lists or markdown.

User: Who are you?
Assistant: I am a voice assistant that runs on your own computer.

User: What is the capital of France?
Assistant: The capital of France is Paris.

User: How many minutes are in an hour?
Assistant: There are sixty minutes in an hour."""

# Natural text has more in every script; where a text has less, the server says so, and more is left out.
BYTES_PER_TOKEN = 3
READ_S = 300.0  # of a server on the network, which may read a long prompt before it writes

at_least_1 = attrs.validators.ge(1)


@module(options=LLMOptions, key="LLM")
class LocalLLM(Module[str, str]):
    """Answers a text, in pieces as the model writes them, with the session's history in mind.

    Runs a GGUF file inside this process: `model` is its path, or None for what `ezflow models pull` brought.
    With `url`, that OpenAI-compatible server answers instead and nothing is loaded: `model` is then a name it
    knows, and `api_key_env` the environment variable that holds its key, if it wants one.

    Cancelling a turn closes its connection, which frees the model for the next one; more than `n_parallel`
    turns at once wait for each other. A conversation that outgrows `n_ctx` tokens loses its oldest messages,
    several at a time. Pieces wait while the next stage is busy. What a model thinks before it answers goes to the
    client as `Thought` events, and no further. `threads` is for the writing of an answer; by default one processor is
    left free.

    Takes: what a user said; white space alone asks nothing. Gives: pieces of the answer, which concatenate to it.
    Raises: BackendError; LLMError for a file that is no model; WeightsMissing when the default weights have not been
    pulled.
    Source: llama.cpp, in the package xllamacpp.
    """

    model: str | None = None
    url: str | None = None
    api_key_env: str | None = None
    system_prompt: str = SYSTEM_PROMPT
    max_tokens: int = attrs.field(default=256, validator=at_least_1)
    temperature: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    n_ctx: int = attrs.field(default=2048, validator=at_least_1)
    n_parallel: int = attrs.field(default=2, validator=at_least_1)
    threads: int | None = attrs.field(default=None, validator=attrs.validators.optional(at_least_1))

    http: HTTPClient = resource()

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        if self.url is not None:
            key = os.environ.get(self.api_key_env, "") if self.api_key_env else ""
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            async with HTTPClient(self.url, server="LocalLLM", headers=headers, read_s=READ_S) as self.http:
                yield
            return
        llama = _Llama()
        try:
            await trio.to_thread.run_sync(self._load, llama)
            async with self._own(llama) as self.http:
                await self._warm_up()
                yield
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(llama.close)

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        if not text.strip():
            return
        options = turn.options[LLMOptions]
        system = self.system_prompt if options.system_prompt is None else options.system_prompt
        limit = self.max_tokens if options.max_tokens is None else options.max_tokens
        warmth = self.temperature if options.temperature is None else options.temperature
        room = BYTES_PER_TOKEN * (self.n_ctx - limit) - prompt_bytes(system) - prompt_bytes(text)
        history = recent(turn.history.messages, room)
        turn.remember(text)
        turn.awaits = self.http.awaited
        begun = False
        while True:
            body = self._body(messages(system, history, text), limit, warmth)
            try:
                async with self._asked(body, turn.user) as pieces:
                    async for piece in pieces:
                        begun = True
                        if isinstance(piece, Thought):
                            await turn.reply(piece)
                        else:
                            yield piece
                return
            except BackendRefused as error:
                if begun or not history or not too_long(error):
                    raise
                history = history[(len(history) + 1) // 2 :]

    def _body(self, prompt: list[dict[str, str]], max_tokens: int, temperature: float) -> dict[str, Any]:
        body = {"messages": prompt, "max_tokens": max_tokens, "temperature": temperature, "stream": True}
        return body | {"model": self.model or "default"}

    @asynccontextmanager
    async def _asked(self, body: dict[str, Any], user: str = "") -> AsyncGenerator[completion, None]:
        """The pieces of the answer to one request; leaving them closes its connection."""

        def failed(told: str) -> BackendRefused:
            return BackendRefused("LocalLLM", self.http.url, f"answered: {told}", body=told)

        try:
            async with self.http.stream(
                "POST", "/chat/completions", json=body, expect="text/event-stream", user=user
            ) as reply:
                yield completion(reply, failed)
        except BackendRefused as error:
            if not too_long(error):
                raise
            advice = "shorten the text or the system prompt, or give the model a larger n_ctx"
            raise BackendRefused(
                error.server, error.url, error.problem, advice=advice, status=error.status, body=error.body
            ) from error

    def _own(self, llama: _Llama) -> HTTPClient:
        # A connection that is kept open occupies one of the few threads that llama.cpp answers with; and a proxy of the
        # environment is not for this process's own port.
        return HTTPClient(
            f"{llama.address}/v1",
            server="LocalLLM",
            headers={"Authorization": f"Bearer {llama.key}"},
            read_s=inf,
            max_connections=self.n_parallel,
            place_s=inf,
            max_idle=0,
            proxy=None,
        )

    def _load(self, llama: _Llama) -> None:
        path = require() if self.model is None else _gguf(self.model)
        with self.needs("xllamacpp", extra="embedded"):
            xllamacpp: Any = import_module("xllamacpp")

        cores = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_parallel = self.n_parallel
        params.n_ctx = self.n_ctx * self.n_parallel
        # Its threads wait for each other by spinning: where speech is made beside it and all processors were
        # taken, an answer was written six times slower (2 instead of 13 tokens/s on 2 busy cores).
        params.cpuparams.n_threads = self.threads or max(cores - 1, 1)
        params.cpuparams_batch.n_threads = self.threads or cores
        # What a prompt shares with the one before is not read again, also when its oldest messages are gone.
        params.n_cache_reuse = 32
        params.slot_prompt_similarity = 0.01
        params.cache_ram_mib = 512
        llama.open(xllamacpp.Server, params)

    async def _warm_up(self) -> None:
        """Have every slot read the system prompt before the first user waits for it."""
        body = self._body(messages(self.system_prompt, (), "Hello"), 1, 0.0)
        for slot in range(self.n_parallel):
            async with self._asked(body | {"id_slot": slot}) as pieces:
                async for _ in pieces:
                    pass


class _Llama:
    """A llama.cpp server and its secret; opened and closed in worker threads, as both take their time."""

    def __init__(self) -> None:
        self.key = secrets.token_hex(16)
        self.address = ""
        self._server: Any = None

    def open(self, make_server: Any, params: Any) -> None:
        params.api_keys = [self.key]
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.ui = False
        params.verbosity = -1
        try:
            self._server = make_server(params)
        except RuntimeError as error:
            raise LLMError(
                f"llama.cpp cannot load {params.model.path}: it needs a GGUF language model, and memory for "
                f"it and {params.n_ctx} tokens. Give another file, or a smaller n_ctx or n_parallel."
            ) from error
        self.address = self._server.listening_address

    def close(self) -> None:
        """Stop the server: its threads end when its last reference goes."""
        self._server = None


def _gguf(model: str) -> Path:
    """The path of a file that begins as a GGUF file does."""
    path = Path(model).expanduser()
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise LLMError(
            f"LocalLLM cannot read {path} ({error.strerror}): give model the path of a GGUF file, "
            "or leave it out and run: ezflow models pull"
        ) from error
    if magic != b"GGUF":
        raise LLMError(f"{path} is no GGUF file: LocalLLM(model=...) takes the path of one.")
    return path
