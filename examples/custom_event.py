"""An event of one's own: a module tells the client the mood of each sentence, for the face of an avatar.

    python examples/custom_event.py "I am so happy! But the cake is gone. What a pity."
    ezflow serve examples/custom_event.py

`@event` declares a class whose name in snake case is its type for clients: {"type": "mood", "stage": "moods", "data":
{"face": "glad", "because": ["happy"]}, ...}. `turn.reply` sends it outward, between what the module gives onward.
"""

import re
import sys
from typing import Literal

import trio

from ezflow import Module, Turn, module
from ezflow.events import event
from stdlib_modules.text.sentences import Sentences

GLAD = {"beautiful", "glad", "good", "great", "happy", "love", "lovely", "nice", "thanks", "wonderful"}
SAD = {"alas", "angry", "bad", "gone", "hurt", "lost", "miss", "pity", "sad", "sorry", "tired", "worried"}


@event
class Mood:
    """The face to make for the sentence that follows, and the words it was read from."""

    face: Literal["glad", "sad", "calm"]
    because: tuple[str, ...] = ()


@module
class Moods(Module[str, str]):
    """Gives each sentence on, after its `Mood` has gone to the client."""

    async def process(self, sentence: str, turn: Turn) -> str:
        await turn.reply(mood(sentence))
        return sentence


def mood(sentence: str) -> Mood:
    words = re.findall(r"\w+", sentence.lower())
    glad, sad = ([word for word in words if word in known] for known in (GLAD, SAD))
    if len(glad) == len(sad):
        return Mood("calm")
    return Mood("glad", tuple(glad)) if len(glad) > len(sad) else Mood("sad", tuple(sad))


flow = Sentences(first_clause_chars=0) >> Moods()


async def read_out(text: str) -> None:
    async with flow.open() as service, service.session("you") as session:
        async for told in session.turn(text):
            if isinstance(told.item, Mood):
                print(f"({told.item.face})", end=" ")
            elif told.type == "text":
                print(told.item)


if __name__ == "__main__":
    trio.run(read_out, " ".join(sys.argv[1:]) or "I am so happy! But the cake is gone. What a pity.")
