"""The session protocol in process, in any order, on a virtual clock, against a model: two users, three devices."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import pytest
import trio
from devices import Device, Held, PlaceModel
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from scripted import SOUND_S, Log, Question, flows_with
from talk_model import Told, TurnModel, compare
from worlds import Virtual

from ezflow import EntryError, ItemTypeError, TurnClosedError
from ezflow.limits import Limits
from ezflow.open_turn import OpenTurn
from ezflow.place import Place
from ezflow.service import open_flows

DEVICES = {"phone": "ann", "desk": "ann", "other": "bob"}
IDLE_S = 5.0
TURN_S = 20.0
LINGER_S = 3.0  # the most that a stage takes to leave
ENDLESS_S = 100.0  # longer than any turn: only a cancellation ends it

QUESTIONS = st.fixed_dictionaries(
    {
        "words": st.integers(0, 4),
        "each_s": st.sampled_from([0.0, 0.1, 0.3, 1.0, ENDLESS_S]),
        "linger_s": st.sampled_from([0.0, 0.0, 0.0, 0.5, LINGER_S]),
        "fails": st.sampled_from([False] * 7 + [True]),
    }
)


class SessionMachine(RuleBasedStateMachine):
    """Rules are what devices do; after each, all that follows from it at the same time has happened."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()
        self.world = Virtual()
        self.world.start()
        self.devices: dict[str, Device] = {}
        self.places: dict[Place, PlaceModel] = {}
        self.asked = 0
        self.left_at: dict[str, float] = {}
        self.services: dict[str, Any] = {}
        self.closing = trio.Event()

    # ---- the world

    @initialize(capacity=st.sampled_from([0, 1, 16]), ear=st.sampled_from([1, 3, 64]))
    def open(self, capacity: int, ear: int) -> None:
        limits = Limits(
            capacity=capacity,
            ear=ear,
            idle_s=IDLE_S,
            turn_s=TURN_S,
            cleanup_s=LINGER_S + 1,
            history_messages=9999,
        )

        async def hold(task_status: trio.TaskStatus[None]) -> None:
            async with open_flows(flows_with(self.log), limits) as services:
                self.services.update(services)
                task_status.started()
                await self.closing.wait()

        self.world.run(self.world.nursery.start, hold)

    def teardown(self) -> None:
        try:
            for name in list(self.devices):
                self._disconnect(name, at_once=True)
            self.world.pass_time(IDLE_S + 2 * LINGER_S + 1)
            assert dict(self.services["text"].sessions) == {}
            assert self.log.at_work == {}
            self.world.call(self.closing.set)
            assert not self.world.nursery.child_tasks
        finally:
            self.world.stop()

    def _question(self, user: str, script: dict[str, Any]) -> Question:
        self.asked += 1
        return Question(user, self.asked, **script)

    # ---- coming and going

    @rule(name=st.sampled_from(sorted(DEVICES)), flow=st.sampled_from(["text", "voice", "latest", "live"]))
    def connect(self, name: str, flow: str) -> None:
        self._step()
        if name in self.devices:
            return

        async def hold(task_status: trio.TaskStatus[Device]) -> None:
            async with self.services[flow].session(DEVICES[name]) as session:
                device = Device(DEVICES[name], flow, session)
                with device.scope:
                    async with trio.open_nursery() as device.nursery:
                        task_status.started(device)
                        await trio.sleep_forever()

        device = self.devices[name] = self.world.run(self.world.nursery.start, hold)
        self.places.setdefault(device.session.place, PlaceModel(device.session.place))

    @rule(name=st.sampled_from(sorted(DEVICES)), at_once=st.booleans())
    def disconnect(self, name: str, at_once: bool) -> None:
        self._step()
        if name in self.devices:
            self._disconnect(name, at_once)

    def _disconnect(self, name: str, at_once: bool) -> None:
        device = self.devices.pop(name)
        for held in device.turns:
            held.model.unwanted = True
        if not at_once:  # as a client that ends its turns before it leaves
            self.world.call(lambda: [held.unwanted.set() for held in device.turns])
        self.world.call(device.scope.cancel)
        self.left_at[device.user] = self.world.call(trio.current_time)

    # ---- turns

    def _begin(self, device: Device, turn: OpenTurn, is_live: bool) -> Held:
        latest, speaks = device.flow in ("latest", "live"), device.flow in ("voice", "live")
        model = TurnModel(device.user, latest, speaks, self.log, TURN_S)
        held = Held(turn, model, is_live)
        place = self.places[device.session.place]
        for other in place.turns:
            other.model.unwanted = True
        place.turns.append(held)
        device.turns.append(held)

        def start() -> None:
            device.nursery.start_soon(held.perform)
            if is_live:
                device.nursery.start_soon(held.feed)

        self.world.call(start)
        return held

    @precondition(lambda self: self.devices)
    @rule(data=st.data(), scripts=st.lists(QUESTIONS, max_size=2))
    def start(self, data: st.DataObject, scripts: list[dict[str, Any]]) -> None:
        self._step()
        device = self._device(data)
        held = self._begin(device, device.session.live(), True)
        for script in scripts:
            self._ask(held, script)

    @precondition(lambda self: self.devices)
    @rule(data=st.data(), script=QUESTIONS)
    def one_shot(self, data: st.DataObject, script: dict[str, Any]) -> None:
        self._step()
        device = self._device(data)
        question = self._question(device.user, script)
        held = self._begin(device, device.session.turn(question.text), False)
        held.model.offered.append(question)
        held.model.ended = True

    @precondition(lambda self: self._feedable())
    @rule(data=st.data(), script=QUESTIONS)
    def send(self, data: st.DataObject, script: dict[str, Any]) -> None:
        self._step()
        self._ask(data.draw(st.sampled_from(self._feedable())), script)

    def _ask(self, held: Held, script: dict[str, Any]) -> None:
        question = self._question(held.model.user, script)
        held.model.offered.append(question)
        self.world.call(lambda: held.give.send_nowait((question.text, None)))

    @precondition(lambda self: [held for held in self._feedable() if held.model.is_latest and held.model.speaks])
    @rule(data=st.data())
    def send_to_the_last_stage(self, data: st.DataObject) -> None:
        self._step()
        some = [held for held in self._feedable() if held.model.is_latest and held.model.speaks]
        held = data.draw(st.sampled_from(some))
        self.asked += 1
        text = f"{held.model.user}s{self.asked}"
        held.model.offered.append(text)
        self.world.call(lambda: held.give.send_nowait((text, "speaks")))

    @precondition(lambda self: self._feedable())
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self._step()
        held = data.draw(st.sampled_from(self._feedable()))
        held.model.ended = True
        self.world.call(lambda: held.give.send_nowait((None, None)))

    @precondition(lambda self: self._live())
    @rule(data=st.data())
    def interrupt(self, data: st.DataObject) -> None:
        self._step()
        device, held = data.draw(st.sampled_from(self._live()))
        held.model.stopped += 1
        self.world.call(lambda: device.nursery.start_soon(held.stop))

    @precondition(lambda self: self.devices)
    @rule(data=st.data())
    def interrupt_the_turn(self, data: st.DataObject) -> None:
        self._step()
        device = self._device(data)
        turns = self.places[device.session.place].turns
        for held in turns:
            held.model.unwanted = True
        known = {held.turn.id for held in turns}

        async def stop() -> None:
            ended = await device.session.interrupt()
            assert ended is None or ended in known | {held.turn.id for held in turns}

        self.world.call(lambda: device.nursery.start_soon(stop))

    @precondition(lambda self: self.devices)
    @rule(data=st.data(), many=st.sampled_from([1, 2, 100]))
    def take(self, data: st.DataObject, many: int) -> None:
        self._step()
        device = self._device(data)
        for held in device.turns:
            self.world.call(partial(held.take, many))

    @precondition(lambda self: self.devices)
    @rule(pauses=st.lists(st.sampled_from([0.05, 0.1, 0.3, 1.0]), min_size=1, max_size=4))
    def listen(self, pauses: list[float]) -> None:
        """All devices take what comes as it comes."""
        self._step()
        for pause in pauses:
            self.world.pass_time(pause)
            for held in [held for device in self.devices.values() for held in device.turns]:
                self.world.call(partial(held.take, 100))

    @precondition(lambda self: self._playing())
    @rule(data=st.data(), ms=st.sampled_from([0.0, 500 * SOUND_S, 1000 * SOUND_S, 1000 * SOUND_S]))
    def played(self, data: st.DataObject, ms: float) -> None:
        self._step()
        held, event = data.draw(st.sampled_from(self._playing()))
        self.world.call(lambda: held.turn.played(event.seq, ms))
        name, _, place = event.text.strip().rpartition("w")
        reports = held.model.heard.setdefault(name, {})
        reports[int(place)] = max(ms, reports.get(int(place), 0.0))

    # ---- what does not fit changes nothing

    @precondition(lambda self: self._live())
    @rule(data=st.data(), wrong=st.sampled_from(["item", "entry", "start", "report", "late"]))
    def wrong(self, data: st.DataObject, wrong: str) -> None:
        self._step()
        device, held = data.draw(st.sampled_from(self._live()))
        turn = held.turn

        async def do() -> None:
            if wrong == "item":
                with pytest.raises(ItemTypeError):
                    await turn.send(5)
            elif wrong == "entry":
                with pytest.raises(EntryError):
                    await turn.send("x", entry="nobody")
            elif wrong == "start":
                with pytest.raises(EntryError):
                    device.session.live(entry=9)
            elif wrong == "report":
                turn.played(10_000, 5.0)
            elif held.model.is_over:
                with pytest.raises(TurnClosedError):
                    await turn.send("x")

        self.world.run(do)

    # ---- time

    @rule(seconds=st.sampled_from([0.05, 0.1, 0.3, 1.0, 3.0, IDLE_S + 1, TURN_S + 1]))
    def time_passes(self, seconds: float) -> None:
        self._step()
        self.world.pass_time(seconds)

    # ---- what is so after every step

    @invariant()
    def turns_are_numbered_in_order(self) -> None:
        for place in self.places.values():
            numbers = [held.turn.id for held in place.turns if held.turn.id]
            assert numbers == list(range(1, len(numbers) + 1))

    @invariant()
    def sessions_live_as_long_as_they_are_held_and_a_while_longer(self) -> None:
        sessions, now = self.services["text"].sessions, self.world.call(trio.current_time)
        for user in set(DEVICES.values()):
            held = [device for device in self.devices.values() if device.user == user]
            assert all(sessions[user] is device.session.place for device in held)
            if not held and now > self.left_at.get(user, now) + IDLE_S + 2 * LINGER_S + 1:
                assert user not in sessions

    @invariant()
    def the_history_holds_what_was_told(self) -> None:
        for user, place in self.services["text"].sessions.items():
            if place in self.places:
                turns = [list(held.model.messages()) for held in self.places[place].turns if held.turn.id]
                expected = [message for turn in turns for message in turn]
                assert place.user == user
                compare(place.history.messages, expected, len(expected) - len(turns[-1]) if turns else 0)

    # ---- what there is

    def _step(self) -> None:
        type(self).steps += 1

    def _device(self, data: st.DataObject) -> Device:
        return self.devices[data.draw(st.sampled_from(sorted(self.devices)))]

    def _live(self) -> list[tuple[Device, Held]]:
        return [(device, held) for device in self.devices.values() for held in device.turns if held.is_live]

    def _feedable(self) -> list[Held]:
        return [held for _, held in self._live() if not (held.model.ended or held.model.unwanted)]

    def _playing(self) -> list[tuple[Held, Told]]:
        """Sounds of answers that nothing has begun to end."""
        found = []
        for _, held in self._live():
            model = held.model
            if model.unwanted or model.stopped or model.is_over:
                continue
            for event in model.told:
                newest = event.run is None or event.run == len(model.offered)
                if event.type == "audio" and newest and event.text not in model.offered:
                    found.append((held, event))
        return found


def test_sessions_in_any_order_are_as_their_model_says(effort, is_long, count, caplog):
    caplog.set_level(logging.CRITICAL, "ezflow")  # of questions that fail
    examples = 0

    class Counted(SessionMachine):
        def __init__(self) -> None:
            super().__init__()
            nonlocal examples
            examples += 1

    run_state_machine_as_test(Counted, settings=effort(120, 2000, stateful_step_count=50 if is_long else 30))
    count(examples=examples, steps=Counted.steps)
