"""A request body of one's own for EZPipe's clients: more fields, with types, defaults and bounds.

    python examples/custom_request.py [PORT]
    curl -N http://127.0.0.1:3421/input -d '{"user": "ann", "Input": "Ann", "language": "zh", "nights": 3}'
    curl http://127.0.0.1:3421/schema

A field of the body counts for each stage whose options have a field of that name. What does not fit is answered with
422 and the reason. `POST /turns` takes the same as {"options": {"reception": {"language": "zh", "nights": 3}}}.
"""

import sys
from typing import Literal

import attrs

from ezflow import Module, Turn, module, serve
from ezflow.server.ezpipe import EZPipeRequest

Language = Literal["en", "de", "zh"]

WELCOME = {
    "en": "Welcome, {name}! Nights booked: {nights}.",
    "de": "Willkommen, {name}! Gebuchte Nächte: {nights}.",
    "zh": "欢迎，{name}！预订晚数：{nights}。",
}


@attrs.frozen(kw_only=True)
class Arrival(EZPipeRequest):
    """The body of `POST /input`: a guest arrives."""

    language: Language = "en"
    nights: int = 1


@attrs.frozen
class Stay:
    """What the reception reads of a request, whatever its protocol."""

    language: Language = "en"
    nights: int = attrs.field(default=1, validator=attrs.validators.ge(1))


@module(options=Stay)
class Reception(Module[str, str]):
    """Welcomes the guest whose name it is given, in the guest's language."""

    async def process(self, name: str, turn: Turn) -> str:
        stay = turn.options[Stay]
        return WELCOME[stay.language].format(name=name, nights=stay.nights)


flow = Reception()

if __name__ == "__main__":
    serve(flow, port=int(sys.argv[1]) if len(sys.argv) > 1 else 3421, request=Arrival)
