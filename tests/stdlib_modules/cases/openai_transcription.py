from case import Case

from ezflow import Audio, Utterance
from ezflow.testing.backends import Fault
from ezflow.testing.backends.openai import OpenAIStandIn
from stdlib_modules.asr.openai import OpenAITranscription

SPEECH = Audio(b"\0\1" * 8000, 16_000)

CASE = Case(
    standin=OpenAIStandIn,
    module=lambda url, **settings: OpenAITranscription("small", url=url, **settings),
    samples=[SPEECH, Utterance.of(SPEECH, SPEECH), Audio(bytes(32_000), 16_000)],
    gives=["I heard 0.50 seconds.", "I heard 1.00 seconds."],
    faults={Fault.NO_END: "the answer is one JSON document: the end of the document is its end"},
    nth=lambda number: Audio(b"\0\1" * 160 * number, 16_000),
)
