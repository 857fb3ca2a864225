"""A translator with two outputs: what is said in English is read aloud, and written in Chinese.

    python examples/translator.py "The museum opens at nine."      prints both as they come, and writes spoken.wav
    ezflow serve examples/translator.py

`a | b` gives each item to both branches and merges what they give, so neither waits for the other. `named` says by what
name clients know a stage; a request may enter at one, and `"entry": "aloud"` is read aloud alone.
"""

import sys
from pathlib import Path

import trio

from ezflow import Audio, Utterance
from stdlib_modules.llm.local import LocalLLM
from stdlib_modules.text.sentences import Sentences
from stdlib_modules.tts.hibari import Hibari

# A small model answers a question rather than translate it, unless it has seen one translated.
PROMPT = """\
You translate what the user says from English into Chinese, and never answer it.

User: Where do you live?
Assistant: 你住在哪里？

User: I like tea.
Assistant: 我喜欢茶。"""

written = LocalLLM(system_prompt=PROMPT) >> Sentences().named("chinese")
spoken = Sentences().named("aloud") >> Hibari()
flow = written | spoken


async def translate(text: str, file: Path) -> None:
    sounds: list[Audio] = []
    async with flow.open() as service, service.session("you") as session:
        async for event in session.turn(text):
            if isinstance(event.item, Audio):
                print(f"{event.t:5.2f} s  aloud    {event.item.text}")
                sounds.append(event.item)
            elif event.type == "text":
                print(f"{event.t:5.2f} s  {event.stage}  {event.item}")
            elif event.error is not None:
                print(f"{event.t:5.2f} s  {event.stage} failed: {event.error.message}")
    if sounds:
        whole = await Utterance.of(*sounds).whole()
        await trio.Path(file).write_bytes(whole.to_wav())


if __name__ == "__main__":
    trio.run(translate, " ".join(sys.argv[1:]) or "The cat sleeps on the sofa.", Path("spoken.wav"))
