"""Transcribes a folder: each WAV in it gets a .txt beside it, and a line here.

    python examples/transcribe_files.py FOLDER

`ordered(flow, 2)` has two files at work at once and gives their texts in the order of the files; no more are read
ahead, so a folder of any size takes the memory of a few files. A file that cannot be read is told of, and the others go
on; the exit code is then 1. A file that has its .txt is left alone: a run that was broken off goes on where it was.
"""

import argparse
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import trio

from ezflow import Audio, Inbox, Module, Outbox, Turn, TurnClosedError, module, ordered
from ezflow.events import event
from stdlib_modules.asr.moonshine import Moonshine


@event
class Unreadable:
    problem: str


@module
class Sound(Module[Path, Audio]):
    """The sound of a WAV file. Of one that cannot be read it tells, and gives nothing."""

    async def process(self, path: Path, turn: Turn) -> AsyncIterator[Audio]:
        try:
            audio = await trio.to_thread.run_sync(Audio.from_wav, path)
        except (OSError, ValueError) as error:
            await turn.reply(Unreadable(str(error)))
        else:
            yield audio


@module
class Whole(Module[str, str]):
    """All that comes, as one text, which may be empty: so each file gives one."""

    async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
        await outbox.send(" ".join([text async for text in inbox]))


flow = ordered(Sound() >> Moonshine() >> Whole(), 2)  # each file has a run of its own, in which Whole sees it alone


async def transcribe(paths: list[Path]) -> int:
    """Transcribe these files; gives how many have their text now."""

    async def feed() -> None:
        with suppress(TurnClosedError):  # the model has failed
            for path in paths:
                await turn.send(path)  # waits while the files before it are at work
            await turn.end()

    following, problem, done = iter(paths), "", 0
    async with flow.open() as service, service.session("batch") as session:
        async with session.live() as turn, trio.open_nursery() as nursery:
            nursery.start_soon(feed)
            async for told in turn:
                if isinstance(told.item, Unreadable):
                    problem = told.item.problem
                elif told.error is not None:
                    print(told.error.message, file=sys.stderr)
                elif told.type == "text":  # one for each file, in the order of the files
                    path = next(following)
                    if not problem:
                        path.with_suffix(".txt").write_text(f"{told.item}\n", encoding="utf-8")
                        done += 1
                    print(f"{path}: {problem or told.item}", file=sys.stderr if problem else sys.stdout)
                    problem = ""
    print(f"{done} of {len(paths)} files transcribed")
    return done


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Transcribe the WAV files of a folder.")
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    sounds = sorted(parser.parse_args().folder.rglob("*.wav"))
    left = [path for path in sounds if not path.with_suffix(".txt").exists()]
    sys.exit(0 if trio.run(transcribe, left) == len(left) else 1)
