"""What a client may be told of a turn, and what the history holds of it: the model that both state machines use.

It knows what was asked of the turn (`offered`, `ended`, `stopped`, ...) and what the client was told, and says
whether that can be. It does not know how far the stages are: where that decides, it takes whatever is possible.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from scripted import SOUND_S, Log, Question

from ezflow import Event

ROUNDED_S = 1e-3  # times are rounded on their way
Message = tuple[str, bool]  # what the assistant said; whether it was cut


@attrs.frozen
class Told:
    """An event, over whatever it came."""

    type: str
    turn: int
    seq: int
    t: float
    run: int | None = None
    text: str = ""
    reason: str | None = None

    @classmethod
    def of(cls, event: Event) -> Told:
        text = event.item if isinstance(event.item, str) else getattr(event.item, "text", "")
        return cls(event.type, event.turn, event.seq, event.t, event.run, text, event.reason)

    @classmethod
    def of_json(cls, event: Mapping[str, Any]) -> Told:
        known = {name: event[name] for name in ("type", "turn", "seq", "t", "run", "text", "reason") if name in event}
        return cls(**known)


@attrs.define(eq=False)
class TurnModel:
    """One turn of one user."""

    user: str
    is_latest: bool
    speaks: bool
    log: Log
    turn_s: float = math.inf
    offered: list[Question | str] = attrs.field(factory=list)  # in this order; a text is for the last stage
    ended: bool = False  # its input is
    stopped: int = 0  # how often its client asked for the running answer to stop
    unwanted: bool = False  # somebody has asked for its end
    told: list[Told] = attrs.field(factory=list)
    shown: dict[str, int] = attrs.field(factory=dict)  # words of each question that were told
    spoken: dict[str, int] = attrs.field(factory=dict)  # sounds of each
    cut: set[int | None] = attrs.field(factory=set)  # runs that were interrupted
    over: set[str] = attrs.field(factory=set)  # questions of which nothing may come any more
    heard: dict[str, dict[int, float]] = attrs.field(factory=dict)  # ms of each sound that the client reported
    unsure: bool = False  # it may have been sent more than it read, or its reports may have come too late

    # ---- what may come

    def accept(self, event: Told) -> None:
        """The client is told this. Raises: AssertionError if it cannot be."""
        assert event.seq == len(self.told), (event, self.told)
        assert event.turn == (self.told[0].turn if self.told else event.turn), "an event of another turn"
        assert (event.type == "turn.started") == (not self.told), event
        assert not self.is_over, f"{event} after {self.told[-1]}"
        assert event.run is None or (self.is_latest and event.run not in self.cut), f"{event} of a run that is over"
        self.told.append(event)
        match event.type:
            case "text":
                self._shows(event)
            case "audio":
                self._sounds(event)
            case "interrupted":
                self._interrupts(event)
            case "error":
                assert any(question.fails for question in self.begun), event
            case "turn.ended":
                self._ends(event)

    @property
    def is_over(self) -> bool:
        return bool(self.told) and self.told[-1].type == "turn.ended"

    @property
    def questions(self) -> list[Question]:
        return [item for item in self.offered if isinstance(item, Question)]

    @property
    def begun(self) -> list[Question]:
        return [question for question in self.questions if question.name in self.log.begun]

    def run_of(self, item: Question | str) -> int | None:
        return self.offered.index(item) + 1 if self.is_latest else None

    def _shows(self, event: Told) -> None:
        question, place = self._word(event.text)
        assert place == self.shown.get(question.name, 0), f"{event} is not the next word"
        assert event.run == self.run_of(question), event
        assert question.name not in self.over, f"{event} of an answer that was interrupted"
        self.shown[question.name] = place + 1
        for earlier in self.questions[: self.questions.index(question)] if not self.is_latest else ():
            assert self._was_stopped(earlier) or self._is_shown(earlier), f"{event} before the end of {earlier}"

    def _sounds(self, event: Told) -> None:
        assert self.speaks, event
        if event.text in self.offered:
            assert event.run == self.run_of(event.text), event
            return
        item = self._word(event.text)[0] if event.text else self._sounding(event.run)
        if isinstance(item, str):
            return
        place = self.spoken.get(item.name, 0)
        assert event.run == self.run_of(item), event
        assert place < self.shown.get(item.name, 0), f"{event} before its text"
        assert item.name not in self.over, f"{event} of an answer that was interrupted"
        self.spoken[item.name] = place + 1

    def _sounding(self, run: int | None) -> Question | str:
        """Whose sound it is: over a socket, sounds do not say what they say."""
        if run is not None:
            return self.offered[run - 1]
        waiting = [q for q in self.questions if self.spoken.get(q.name, 0) < self.shown.get(q.name, 0)]
        assert waiting, "a sound without a text"
        return next((question for question in waiting if question.name not in self.over), waiting[0])

    def _word(self, text: str) -> tuple[Question, int]:
        name, _, place = text.strip().rpartition("w")
        found = [question for question in self.questions if question.name == name]
        assert found, f"{text!r} answers nothing that was asked in this turn"
        return found[0], int(place)

    def _interrupts(self, event: Told) -> None:
        self.cut.add(event.run)
        superseded = event.run is not None and len(self.offered) > event.run
        assert superseded or self.stopped, f"{event} without a cause"
        if event.run is None:
            assert [other.type for other in self.told].count("interrupted") <= self.stopped
            self.over |= set(self.shown)

    def _ends(self, event: Told) -> None:
        errors = [other for other in self.told if other.type == "error"]
        assert bool(errors) == (event.reason == "error") or event.reason == "interrupted", event
        if event.reason == "done":
            assert self.ended, "it is done, and its input has not ended"
            for item in self.offered:
                assert self._is_through(item), f"{item} has not been answered whole"
        elif event.reason == "interrupted":
            assert self.unwanted, "nobody has asked for its end"
        elif event.reason == "timeout":
            assert event.t >= self.turn_s, event

    def _is_through(self, item: Question | str) -> bool:
        """Has all of it come that must, where the turn ran out?"""
        if self.run_of(item) in self.cut and self.is_latest:
            return True
        if isinstance(item, str):
            return any(event.type == "audio" and event.run == self.run_of(item) for event in self.told)
        sounds = self.spoken.get(item.name, 0) == item.words or not self.speaks
        return self._was_stopped(item) or (self._is_shown(item) and sounds)

    def _is_shown(self, question: Question) -> bool:
        return self.shown.get(question.name, 0) == question.words and question.name in self.log.begun

    def _was_stopped(self, question: Question) -> bool:
        """Was it begun before what came so far of interruptions?"""
        stops = [event.t for event in self.told if event.type == "interrupted"]
        return bool(stops) and self.log.begun.get(question.name, math.inf) <= stops[-1] + ROUNDED_S

    # ---- what the history holds

    def messages(self) -> Iterator[tuple[str, set[Message | None]]]:
        """Each question that was begun, in order, and what the history may hold as its answer once the turn is over."""
        begun = self.begun
        for place, question in enumerate(begun):
            run = self.run_of(question)
            whole: Message = ("".join(question.answer), False)
            later_runs = any((event.run or 0) > (run or 0) for event in self.told)
            was_cut = run in self.cut if self.is_latest else self._was_stopped(question)
            is_done = self.is_over and self.told[-1].reason == "done"
            if not was_cut and (is_done or (self.is_latest and later_runs)):
                possible = {whole}
            else:
                possible = self._may_be_cut(question)
                if not self.is_latest and place < len(begun) - 1:
                    possible.add(whole)  # the stage has moved on from it
            if self.unsure:
                pieces = [question.answer[:count] for count in range(question.words + 1)]
                possible |= {whole, *(("".join(some), True) for some in pieces)}
                possible |= {(" ".join(some).replace("  ", " ").strip(), True) for some in pieces}
            yield question.text, {found if found[0] else None for found in possible}

    def _may_be_cut(self, question: Question) -> set[Message]:
        """What is remembered where its run was ended: all of it if it was sent whole and heard."""
        whole = question.name in self.log.answered and self._is_shown(question)
        if whole and not self.speaks:
            return {("".join(question.answer), False)}
        # Whether its sound was still being played, or its end was told before the turn was ended, it cannot know.
        return {self._as_cut(question)} | ({("".join(question.answer), False)} if whole else set())

    def _as_cut(self, question: Question) -> Message:
        """What the listener heard, if it says so, else what it was sent."""
        shown = question.answer[: self.shown.get(question.name, 0)]
        if reports := self.heard.get(question.name):
            heard = [word for place, word in enumerate(question.answer) if reports.get(place, 0.0) >= 1000 * SOUND_S]
            return (" ".join(word.strip() for word in heard), True)
        return ("".join(shown), True)


def compare(messages: Sequence[Any], expected: Sequence[tuple[str, set[Message | None]]], open_from: int) -> None:
    """Hold a history against what is expected; from `open_from` on, of the turn that still runs, it may say less."""
    left = list(messages)
    for place, (asked, answers) in enumerate(expected):
        if not left and place >= open_from:
            return
        assert left, f"{asked} is not remembered"
        assert (left[0].role, left[0].content) == ("user", asked), (left[0], asked)
        left.pop(0)
        if left and left[0].role == "assistant":
            found = (left[0].content, left[0].cut)
            assert found in answers, f"{asked} is remembered with {found}, and may be with {answers}"
            left.pop(0)
        else:
            assert None in answers, f"of {asked} no answer is remembered; it may be one of {answers}"
    assert not left, f"{left} is remembered, and was not said"
