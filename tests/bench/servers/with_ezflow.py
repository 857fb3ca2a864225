"""ezflow's own presets, served by ezflow: nothing switched off, and only those bounds raised that a load needs."""

from __future__ import annotations

from .arguments import read

if __name__ == "__main__":
    url = read()

    from ezflow import serve
    from stdlib_modules.llm.ollama import Ollama
    from stdlib_modules.text.sentences import Sentences
    from stdlib_modules.tts.gpt_sovits import GPTSoVITS

    model = Ollama("bench", url=url, max_connections=2000)
    voice = GPTSoVITS(ref_audio_path="voice.wav", prompt_text="hello", prompt_lang="en", url=url, max_connections=2000)
    serve(model.shown() >> Sentences() >> voice, port=0, max_sessions=10_000)
