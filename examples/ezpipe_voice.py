"""EZPipe's own pipelines: FunASR, Ollama, GPT-SoVITS, Dify and LiveTalking, each in a server of its own.

    pip install -e ".[http]"
    ezflow serve examples/ezpipe_voice.py

`voice` is the first: its routes are at the root, where EZPipe's clients look for them; `/chat/input` and
`/avatar/input` are the seed's other two. Where the servers are stands in the environment, or under `[values]` in
`ezflow.toml`, or is said by `--set OLLAMA_URL=...`: `ezflow config examples/ezpipe_voice.py` shows it. DIFY_API_KEY, in
the environment, names the app; GPT_SOVITS_VOICES the table of voices: by default `voices.yaml` beside this file, a
sample into which your own recordings go.
"""

from pathlib import Path

from ezflow import serve, setting
from stdlib_modules.asr.funasr import FunASR
from stdlib_modules.avatar.livetalking import LiveTalking
from stdlib_modules.llm.dify import Dify
from stdlib_modules.llm.ollama import Ollama
from stdlib_modules.text.sentences import Sentences
from stdlib_modules.tts.gpt_sovits import GPTSoVITS

VOICES = str(Path(__file__).with_name("voices.yaml"))

asr = FunASR(url=setting("FUNASR_URL", "ws://127.0.0.1:10095"))
llm = Ollama(setting("OLLAMA_MODEL", "qwen2.5"), url=setting("OLLAMA_URL", "http://127.0.0.1:11434"))
tts = GPTSoVITS(voices=setting("GPT_SOVITS_VOICES", VOICES), url=setting("GPT_SOVITS_URL", "http://127.0.0.1:9880"))
dify = Dify(url=setting("DIFY_URL", "http://127.0.0.1/v1"))
avatar = LiveTalking(url=setting("LIVETALKING_URL", "http://127.0.0.1:8010"))

flows = {
    "voice": asr >> llm.shown() >> Sentences() >> tts,
    "chat": llm.shown() >> Sentences() >> tts,
    "avatar": dify.shown() >> Sentences() >> avatar,
}

if __name__ == "__main__":
    serve(flows, port=3421)
