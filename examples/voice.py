"""A voice agent on models that run in this process: no account, no GPU, no other server.

    nox -s serve            or            ezflow serve examples/voice.py

`flow` answers one recorded question per request; `live` listens to a microphone, and the speaker may interrupt.
"""

from ezflow import Latest, serve
from stdlib_modules.asr.moonshine import Moonshine
from stdlib_modules.llm.local import LocalLLM
from stdlib_modules.text.sentences import Sentences
from stdlib_modules.tts.hibari import Hibari
from stdlib_modules.vad.silero import SileroVAD

flow = Moonshine() >> LocalLLM().shown() >> Sentences() >> Hibari()  # a request holds one utterance
live = SileroVAD() >> Latest(flow)  # a microphone, with barge-in
flows = {"voice": flow, "live": live}

if __name__ == "__main__":
    serve(flows, port=3421)
