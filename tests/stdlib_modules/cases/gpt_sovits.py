from case import Case

from ezflow.testing.backends import Fault
from ezflow.testing.backends.gpt_sovits import GPTSoVITSStandIn
from stdlib_modules.http.errors import BackendBroken
from stdlib_modules.tts.gpt_sovits import GPTSoVITS

RECORDING, WORDS = "voices/neighbour.wav", "Good morning."


CASE = Case(
    standin=GPTSoVITSStandIn,
    module=lambda url, **settings: GPTSoVITS(ref_audio_path=RECORDING, prompt_text=WORDS, url=url, **settings),
    samples=["héllo 你好", "again"],
    faults={
        Fault.NO_END: "sound has no end mark: its end is that of the HTTP body",
        Fault.ERROR_BODY: BackendBroken,  # it sends silence, and breaks off
    },
)
