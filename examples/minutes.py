"""The minutes of a meeting: many sounds go in, one text comes out when the last has been heard.

    python examples/minutes.py one.wav two.wav three.wav > minutes.md       a file for each who spoke
    ezflow serve examples/minutes.py                                        /live/ws listens to a microphone until `end`

A module with `run` sees the whole stream, and gives something when it will. What it gathers stands in a local variable:
it belongs to this turn, and is gone when the turn is cancelled. A language model may follow: `Minutes() >> LocalLLM()`.
"""

import re
import sys

import trio

from ezflow import Audio, EzflowError, Inbox, Module, Outbox, Turn, module
from stdlib_modules.asr.moonshine import Moonshine
from stdlib_modules.vad.silero import SileroVAD

PROMISE = re.compile(r"\b(I|we)('ll| will| must)\b", re.IGNORECASE)


@module
class Minutes(Module[str, str]):
    """Gathers all that is said, and gives its minutes at the end: who promised, what was asked. Nothing for silence."""

    title: str = "Minutes"

    async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
        said: list[str] = []
        async for words in inbox:
            said += re.split(r"(?<=[.?!])\s+", words)
        if said:
            await outbox.send(self.written(said))

    def written(self, said: list[str]) -> str:
        sections = {
            self.title: said,
            "To do": [sentence for sentence in said if PROMISE.search(sentence)],
            "Open questions": [sentence for sentence in said if sentence.endswith("?")],
        }
        return "\n\n".join(
            "\n- ".join([f"# {title}", *sentences]) for title, sentences in sections.items() if sentences
        )


flow = Moonshine() >> Minutes()  # each sound is what one person said
live = SileroVAD() >> flow  # one sound, of which the pauses make utterances
flows = {"files": flow, "live": live}

if __name__ == "__main__":
    try:
        print(*trio.run(flow.collect, (Audio.from_wav(file) for file in sys.argv[1:])))
    except (EzflowError, OSError, ValueError) as error:
        sys.exit(str(error))
