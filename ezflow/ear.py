"""The client's ear: what a turn says, on its way to the client and into the history."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Literal, Protocol

import attrs
import trio

from .channels import breathe
from .events import Event, Fault, Reason, event_type
from .history import Message
from .items import Audio

__all__ = ["Ear", "Exchange", "Hearing", "Note", "Run", "Spoken"]

# How many answers of a run may have been shown before they are spoken.
TOLD = 8
KINDS = {"started": "turn.started", "ended": "turn.ended"}


@attrs.define
class Spoken:
    """A piece of sound that the client was sent: the words it says, and how much of it was heard."""

    seq: int
    text: str
    ms: float
    heard_ms: float | None = None

    @property
    def heard(self) -> str:
        """The words up to where the listener stopped; a word begun is not one heard."""
        words = self.text.split()
        return " ".join(words[: int(len(words) * min(1.0, (self.heard_ms or 0.0) / self.ms) + 0.02)])


class Exchange:
    """A user's words and one stage's answer to them, on their way into the history."""

    def __init__(self, asked: str, stage: str) -> None:
        self.asked = asked
        self.asked_at = time.time()
        self.stage = stage
        self.given: list[str] = []
        self.shown: list[str] = []
        self.spoken: list[Spoken] = []
        self.complete = False  # the stage has given all of it
        self.void = False  # it was an attempt that failed
        self._letters = ""  # of the first `_counted` pieces of `given`
        self._counted = 0
        self._said = 0  # how many of its letters its sound has reached

    def give(self, item: object) -> None:
        """The stage gave something onward."""
        if isinstance(item, str):
            self.given.append(item)

    def says(self, text: str) -> bool:
        """Does a sound with this text belong to the answer? Each piece of an answer is said once, in order."""
        letters = _letters(text)
        place = self.letters.find(letters, self._said)
        if place >= 0:
            self._said = place + len(letters)
        return place >= 0

    @property
    def letters(self) -> str:
        """The letters of all that was given."""
        if self._counted < len(self.given):
            self._letters += _letters("".join(self.given[self._counted :]))
            self._counted = len(self.given)
        return self._letters

    @property
    def sent(self) -> bool:
        """Was the client sent all of the answer so far, as text or else as sound?"""
        if self.shown:
            return sum(map(len, self.shown)) >= sum(map(len, self.given))
        return bool(self.spoken) and self._said >= len(self.letters)

    @property
    def heard(self) -> bool:
        """Has the listener reported to have heard all of the sound? True where nobody reports."""
        reports = [spoken.heard_ms for spoken in self.spoken]
        return all(report is None for report in reports) or all(
            (spoken.heard_ms or 0.0) >= spoken.ms for spoken in self.spoken
        )

    def messages(self, cut: bool) -> list[Message]:
        """What belongs into the history: of an answer that was cut, only what was heard, where the client says
        (`played`), else what the client was sent.
        """
        answer = "".join(self.given) or "".join(self.shown)
        if cut and any(spoken.heard_ms is not None for spoken in self.spoken):
            answer = " ".join(filter(None, (spoken.heard for spoken in self.spoken)))
        elif cut:
            answer = "".join(self.shown) or " ".join(spoken.text for spoken in self.spoken)
        messages = [Message("user", self.asked, at=self.asked_at)]
        if answer:
            messages.append(Message("assistant", answer, cut))
        return messages


def _letters(text: str) -> str:
    # A sentence that is spoken has lost the markdown and white space of the text it comes from.
    return "".join(filter(str.isalnum, text))


class Run:
    """A stretch of a turn that is interrupted as one: a run of `Latest` (from 1), or the turn's own (0)."""

    def __init__(self, number: int, parent: Run | None = None) -> None:
        self.number = number
        self.parent = parent
        self.scope = trio.CancelScope()
        self.left = trio.Event()
        self.over = False
        self.ran_out = False  # its stages have left of themselves: all of what there is to say has been said
        self.lost = False  # something that it said was dropped: the client was never sent it
        # On trio's clock: until then a client that plays what it takes is still playing this run's sound.
        self.plays_until = 0.0
        self.exchanges: list[Exchange] = []
        # Those that are history already, since the client was sent their text; their sound may still be on its way.
        self.told: deque[Exchange] = deque(maxlen=TOLD)

    def play(self, audio: Audio, seq: int) -> None:
        """The client took a sound: it plays it after what it plays already, and hears an answer's words in it."""
        exchanges: list[Exchange] = []
        told: list[Exchange] = []
        runs: list[Run] = []
        run: Run | None = self
        while run is not None:
            run.plays_until = max(run.plays_until, trio.current_time()) + audio.duration_s
            exchanges += [exchange for exchange in run.exchanges if not exchange.void]
            told += run.told
            runs.append(run)
            run = run.parent
        if audio.text and exchanges:
            answer = next((exchange for exchange in (*told, *exchanges) if exchange.says(audio.text)), exchanges[-1])
            answer.spoken.append(Spoken(seq, audio.text, 1000 * audio.duration_s))
            if answer not in told:  # sounds come in order: of those before it none is on its way any more
                for told_in in runs:
                    told_in.told.clear()

    def within(self, other: Run) -> bool:
        run: Run | None = self
        while run is not None and run is not other:
            run = run.parent
        return run is other


@attrs.define(eq=False)
class Note:
    """An event before the client takes it (only then is its `seq` known)."""

    kind: Literal["started", "item", "stage", "error", "interrupted", "ended"]
    run: Run
    t: float
    stage: str | None = None
    item: Any = None
    error: Fault | None = None
    reason: Reason | None = None
    exchange: Exchange | None = None  # the answer that a text is a part of


class Ear:
    """The bounded queue between a turn's stages and its client.

    `put` waits for room, which is the backpressure from the client to the first stage. What the engine itself
    says (`tell`) never waits; `room` bounds it. `drop` forgets what a run said and the client has not taken.
    """

    def __init__(self, turn: int, capacity: int) -> None:
        self._turn = turn
        self._capacity = capacity
        self._notes: deque[Note] = deque()
        self._room = trio.lowlevel.ParkingLot()
        self._arrived = trio.lowlevel.ParkingLot()
        self._seq = 0
        self._puts = 0

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def held(self) -> int:
        """How many events the client has not taken; what the engine says may exceed the capacity."""
        return len(self._notes)

    async def put(self, note: Note) -> None:
        """Queue what a stage says. Atomic with respect to cancellation."""
        self._puts += 1
        await breathe(self._puts)
        while len(self._notes) >= self._capacity:
            await self._room.park()
        self.tell(note)

    async def room(self) -> None:
        """Wait until fewer notes are held than the capacity."""
        self._puts += 1
        await breathe(self._puts)
        while len(self._notes) >= self._capacity:
            await self._room.park()
        self._room.unpark()  # it puts nothing there itself, so whoever waits next may

    def tell(self, note: Note) -> None:
        """Queue at once."""
        self._notes.append(note)
        if self._arrived:
            self._arrived.unpark()

    def tell_before_end(self, note: Note) -> None:
        """Queue at once; the turn's end stays last, where it waits to be taken."""
        end = self._notes.pop() if self._notes and self._notes[-1].kind == "ended" else None
        self.tell(note)
        if end is not None:
            self._notes.append(end)

    def hint(self, note: Note) -> bool:
        """Queue at once, unless as many notes are held as the capacity is; says whether it has."""
        has_room = len(self._notes) < self._capacity
        if has_room:
            self.tell(note)
        return has_room

    def tell_first(self, note: Note) -> None:
        """Queue at once, before all that is queued already."""
        self._notes.appendleft(note)

    async def next(self) -> Note:
        """The next note, which stays where it is. Atomic with respect to cancellation."""
        while not self._notes:
            await self._arrived.park()
        return self._notes[0]

    def ends(self) -> bool:
        """Is the end of the turn the next there is to tell?"""
        return bool(self._notes) and self._notes[0].kind == "ended"

    def drop(self, run: Run) -> None:
        """Forget every queued item of a run and of the runs within it."""
        kept: deque[Note] = deque()
        for note in self._notes:
            if note.kind not in ("item", "stage") or not note.run.within(run):
                kept.append(note)
            elif note.kind == "item":
                note.run.lost = True
        self._notes = kept
        self._room.unpark_all()

    def untaken(self, run: Run) -> bool:
        """Is there an item of the run, or of one within it, that the client has not taken?"""
        return any(note.kind == "item" and note.run.within(run) for note in self._notes)

    async def take(self) -> Event:
        """The next event, for the client. Atomic with respect to cancellation."""
        while not self._notes:
            await self._arrived.park()
        return self.take_nowait()

    def take_nowait(self) -> Event:
        """The next event that is there. Raises: trio.WouldBlock if there is none."""
        if not self._notes:
            raise trio.WouldBlock
        note = self._notes.popleft()
        if self._room:
            self._room.unpark()
        if note.exchange is not None:
            note.exchange.shown.append(note.item)
        elif isinstance(note.item, Audio):
            note.run.play(note.item, self._seq)
        event = self._event(note)
        self._seq += 1
        return event

    def _event(self, note: Note) -> Event:
        return Event(
            type=event_type(note.item) if note.kind == "item" else KINDS.get(note.kind, note.kind),
            turn=self._turn,
            seq=self._seq,
            t=note.t,
            stage=note.stage,
            run=note.run.number or None,
            item=note.item,
            error=note.error,
            reason=note.reason,
        )


class Hearing(Protocol):
    """Where a stage's replies go: the client's ear, or a combinator that holds them back."""

    async def put(self, note: Note) -> None: ...
