"""A digital human: a language model in this process, and a LiveTalking server whose avatar says the answer.

    LIVETALKING_URL=http://gpu-box:8010 ezflow serve examples/digital_human.py
    curl -N http://127.0.0.1:3421/turns -d '{"user": "ann", "input": "Hello!", "options": {"TTS": {"sessionid": 7}}}'

`chat` answers what is typed, `talk` a microphone. The sound and the face are in the avatar's own page; what comes back
here is each sentence as the avatar takes it. A turn lasts until the avatar has said it all: to speak over the avatar
(`Latest`), or to end the turn (`POST /interrupt`), silences it.
"""

import os

from ezflow import Latest, serve
from stdlib_modules.asr.moonshine import Moonshine
from stdlib_modules.avatar.livetalking import LiveTalking
from stdlib_modules.llm.local import LocalLLM
from stdlib_modules.text.sentences import Sentences
from stdlib_modules.vad.silero import SileroVAD

avatar = LiveTalking(url=os.environ.get("LIVETALKING_URL", "http://127.0.0.1:8010"))

chat = LocalLLM() >> Sentences() >> avatar
talk = SileroVAD() >> Latest(Moonshine() >> chat)
flows = {"chat": chat, "talk": talk}

if __name__ == "__main__":
    serve(flows, port=3421)
