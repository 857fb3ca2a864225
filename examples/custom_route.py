"""A route of one's own: a module that says words as a list has them, and a route that changes the list meanwhile.

    ezflow serve examples/custom_route.py
    curl http://127.0.0.1:3421/pronunciations -d '{"SQL": "sequel"}'
    curl http://127.0.0.1:3421/pronunciations
    curl -N http://127.0.0.1:3421/turns -d '{"user": "ann", "input": "We use SQL here."}'

`routes` gives a Quart blueprint, which the server joins to its own routes, with their tokens and limits in front. What
is wrong with a request is an InputError: it names the place, and is answered as the server's own are.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
from quart import Blueprint, request

from ezflow import InputError, Module, Turn, module, resource, serve
from stdlib_modules.tts.hibari import Hibari


@module
class Pronounced(Module[str, str]):
    """Gives each text on with its words written as they are said. The list is the same for all users."""

    known: tuple[tuple[str, str], ...] = (("GPU", "gee pee you"),)
    max_words: int = attrs.field(default=1000, validator=attrs.validators.ge(1))
    said: dict[str, str] = resource()

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        self.said = dict(self.known)
        yield

    async def process(self, text: str, turn: Turn) -> str:
        return re.sub(r"\w+", lambda word: self.said.get(word[0], word[0]), text)

    def routes(self) -> Blueprint:
        routes = Blueprint("pronunciations", __name__)

        @routes.get("/pronunciations")
        async def listed() -> dict[str, str]:
            return self.said

        @routes.post("/pronunciations")
        async def changed() -> dict[str, str]:
            added = words_in(await request.get_json(force=True))
            if len(self.said | added) > self.max_words:
                raise InputError("body", f"at most {self.max_words} words can be known")
            self.said.update(added)
            return self.said

        return routes


def words_in(body: object) -> dict[str, str]:
    """Words and how each is said. Raises: InputError."""
    if not isinstance(body, dict) or not body:
        raise InputError("body", 'words are needed, and how they are said: {"SQL": "sequel"}')
    for word, said in body.items():
        if not re.fullmatch(r"\w{1,50}", word):
            raise InputError(word, "a single word is needed, of at most 50 letters")
        if not isinstance(said, str) or not 0 < len(said) <= 200:
            raise InputError(word, "how it is said is needed: a text of 1 to 200 characters")
    return body


flow = Pronounced().shown() >> Hibari()

if __name__ == "__main__":
    serve(flow, port=3421)
