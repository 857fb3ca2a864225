"""examples/transcribe_files.py: a folder of sounds, some of them bad."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from programs import example, run

pytest.importorskip("numpy", reason="the extra `speech` is not installed: numpy is missing")

from speech import RATE_HZ, silence, spoken

from ezflow import Audio, Module, Turn, module, ordered
from ezflow.testing import check_module
from stdlib_modules.sound import from_float32


def write(file: Path, text: str = "") -> None:
    """A WAV in which the text is said, or of silence."""
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(from_float32(spoken(text) if text else silence(1), RATE_HZ).to_wav())


def sounds(folder: Path, count: int) -> list[Path]:
    """WAVs, each a sample longer than the one before."""
    files = [folder / f"{number:02}.wav" for number in range(count)]
    for number, file in enumerate(files):
        file.write_bytes(Audio(bytes(2 * number), RATE_HZ).to_wav())
    return files


@pytest.mark.model
def test_each_file_gets_its_text_and_a_bad_one_is_told_of(tmp_path):
    write(tmp_path / "a.wav", "The cat sleeps on the sofa.")
    (tmp_path / "b.wav").write_text("no sound at all")
    write(tmp_path / "c.wav")
    write(tmp_path / "d" / "e.wav", "The museum opens in the morning.")
    done = run("transcribe_files", tmp_path, cwd=tmp_path, code=1)
    cat, nothing, museum, count = done.stdout.splitlines()
    assert cat.startswith(f"{tmp_path / 'a.wav'}: ")
    assert "cat sleeps on the sofa" in (tmp_path / "a.txt").read_text()
    assert nothing == f"{tmp_path / 'c.wav'}: "
    assert (tmp_path / "c.txt").read_text() == "\n"
    assert museum == f"{tmp_path / 'd' / 'e.wav'}: {(tmp_path / 'd' / 'e.txt').read_text().strip()}"
    assert "museum" in museum
    assert count == "3 of 4 files transcribed"
    assert done.stderr.startswith(f"{tmp_path / 'b.wav'}: not a WAV")
    assert not (tmp_path / "b.txt").exists()


@pytest.mark.model
def test_a_second_run_goes_on_where_the_first_was(tmp_path):
    (tmp_path / "a.wav").write_text("never looked at, as it has its text")
    (tmp_path / "a.txt").write_text("done by hand\n")
    write(tmp_path / "b.wav", "The cat sleeps on the sofa.")
    assert "1 of 1 files" in run("transcribe_files", tmp_path, cwd=tmp_path).stdout
    assert (tmp_path / "a.txt").read_text() == "done by hand\n"
    assert run("transcribe_files", tmp_path, cwd=tmp_path).stdout == "0 of 0 files transcribed\n"


async def test_a_folder_of_any_size_takes_the_memory_of_a_few_files(tmp_path, monkeypatch, capsys):
    program = example("transcribe_files")
    read: list[weakref.ref[Audio]] = []
    most: list[int] = []

    @module
    class Listener(Module[Audio, str]):
        async def process(self, audio: Audio, turn: Turn) -> AsyncIterator[str]:
            read.append(weakref.ref(audio))
            await trio.testing.wait_all_tasks_blocked()  # what can be read ahead has been read
            most.append(sum(sound() is not None for sound in read))
            yield str(len(audio.pcm))

    monkeypatch.setattr(program, "flow", ordered(program.Sound() >> Listener() >> program.Whole(), 2))
    files = sounds(tmp_path, 40)
    assert await program.transcribe(files) == 40
    assert [file.with_suffix(".txt").read_text() for file in files] == [f"{2 * number}\n" for number in range(40)]
    assert len(read) == 40
    assert max(most) <= 3
    assert len(capsys.readouterr().out.splitlines()) == 41


async def test_when_the_model_fails_it_says_so_and_how_far_it_came(tmp_path, monkeypatch, capsys):
    program = example("transcribe_files")

    @module
    class Breaking(Module[Audio, str]):
        async def process(self, audio: Audio, turn: Turn) -> str:
            if audio.samples == 20:
                raise RuntimeError("out of memory")
            return "words"

    monkeypatch.setattr(program, "flow", ordered(program.Sound() >> Breaking() >> program.Whole(), 2))
    files = sounds(tmp_path, 40)
    done = await program.transcribe(files)
    assert done == sum(file.with_suffix(".txt").exists() for file in files) <= 20
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == f"{done} of 40 files transcribed"
    assert "out of memory\n" in told.err


def test_its_modules_keep_the_rules_of_modules(tmp_path):
    program = example("transcribe_files")
    write(tmp_path / "a.wav")
    check_module(program.Sound(), [tmp_path / "a.wav", tmp_path / "missing.wav"], real=True)
    check_module(program.Whole(), ["a", "b"])


def test_without_a_folder_it_says_what_is_needed(tmp_path):
    assert "FOLDER" in run("transcribe_files", cwd=tmp_path, code=2).stderr
