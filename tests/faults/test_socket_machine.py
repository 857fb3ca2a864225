"""The session protocol over real sockets, in any order, against the same model: WebSockets and requests that come,
talk, send what does not fit, and vanish.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import trio
from hypothesis import strategies as st
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from reachable import Post, Server, Socket, becomes, descriptors, interrupt, serving
from scripted import SOUND_S, Log, Question, flows_with
from socket_device import Device
from talk_model import Told, TurnModel, compare
from worlds import World

FLOWS = ["text", "voice", "latest", "live"]
DEVICES = {"phone": "ann", "desk": "ann", "other": "bob"}
ENDLESS_S = 3600.0

QUESTIONS = st.fixed_dictionaries(
    {
        "words": st.integers(0, 4),
        "each_s": st.sampled_from([0.0, 0.0, 0.001, 0.003, ENDLESS_S]),
        "linger_s": st.sampled_from([0.0, 0.0, 0.0, 0.005]),
        "fails": st.sampled_from([False] * 7 + [True]),
    }
)
# Frames that fit nowhere, whatever turn there is.
WRONG = [
    '{"type"', "5", "{}", '{"type":"stop"}', '{"type":"start","entry":9}', '{"type":"start","options":{"LLM":{}}}',
    '{"type":"played","turn":1,"seq":"1","ms":5}', '{"type":"ping","id":1}', "\x00", '{"type":"end","now":true}',
]  # fmt: skip


class SocketMachine(RuleBasedStateMachine):
    """One example: devices of two users that nobody else is. What is done depends on nothing that was heard, which is
    another thing each time.
    """

    world: World
    server: Server
    log: Log
    found: list[AssertionError]
    steps = examples = 0

    def __init__(self) -> None:
        super().__init__()
        cls = type(self)
        cls.examples += 1
        self.devices: dict[str, Device] = {}
        self.turns: dict[str, list[TurnModel]] = {f"{user}{cls.examples}": [] for user in set(DEVICES.values())}
        self.asked = 0
        self.faults: list[Exception] = []
        self.nursery = self.world.nursery
        self.posts: list[trio.CancelScope] = []
        self.tasks, self.files = self.server.tasks, descriptors()

    def teardown(self) -> None:
        with self._found():
            self.world.run(self._leave)
            self._no_faults()

    async def _leave(self) -> None:
        for scope in [*(device.scope for device in self.devices.values()), *self.posts]:
            scope.cancel()
        await interrupt(self.server, "nobody")  # answered: all that connected before is known, its tasks are counted
        await becomes(lambda: self._left() and self.server.tasks <= self.tasks, "sessions end, and no task is left")
        await becomes(lambda: descriptors() <= self.files, "no descriptor is left")
        assert self.turns.keys().isdisjoint(self.log.at_work)

    def _left(self) -> bool:
        """Have the sessions ended? Those that nobody holds are told to. One may yet come, of a request on its way."""
        places = [place for user, place in self.server.places.items() if user in self.turns]
        for place in places:
            if not place.leases and not place.nursery.child_tasks:
                place.leave()
        return not places

    def _user(self, name: str) -> str:
        return f"{DEVICES[name]}{self.examples}"

    @contextmanager
    def _step(self) -> Iterator[None]:
        type(self).steps += 1
        with self._found():
            yield
            self._no_faults()

    @contextmanager
    def _found(self) -> Iterator[None]:
        """Keep what was found: where it hangs on the moment, hypothesis only sees that it does not come again."""
        try:
            yield
        except AssertionError as error:
            type(self).found.append(error)
            raise

    def _no_faults(self) -> None:
        if self.faults:
            raise self.faults[0]

    # ---- coming and going

    @rule(name=st.sampled_from(sorted(DEVICES)), flow=st.sampled_from(FLOWS))
    def connect(self, name: str, flow: str) -> None:
        with self._step():
            if name not in self.devices:
                self.devices[name] = self.world.run(self.nursery.start, self._listen, flow, self._user(name))

    async def _listen(self, flow: str, user: str, task_status: trio.TaskStatus[Device]) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                socket = await Socket.connect(nursery, self.server, flow, user)
                try:
                    device = Device(user, flow, socket, scope)
                    task_status.started(device)
                    while (event := await socket.event()) is not None:
                        device.hear(event)
                except (AssertionError, IndexError) as error:
                    self.faults.append(error)
                finally:
                    await socket.vanish()
                nursery.cancel_scope.cancel()

    @precondition(lambda self: self.devices)
    @rule(data=st.data(), orderly=st.booleans())
    def disconnect(self, data: st.DataObject, orderly: bool) -> None:
        with self._step():
            name = data.draw(st.sampled_from(sorted(self.devices)))
            device = self.devices.pop(name)
            for model in [*device.starts, *filter(None, [device.current])]:
                if not model.is_over:
                    model.unwanted = model.unsure = True
            if orderly:
                self.world.run(device.socket.leave)
            self.world.call(device.scope.cancel)

    def _send(self, device: Device, kind: str, **fields: Any) -> None:
        self.world.run(partial(device.socket.send, kind, **fields))

    # ---- turns

    def _model(self, user: str, flow: str) -> TurnModel:
        """A turn that is about to be begun: it ends the others, or one that is on its way ends it."""
        model = TurnModel(user, flow in ("latest", "live"), flow in ("voice", "live"), self.log)
        others = [other for other in self.turns[user] if not other.is_over]
        for other in others:
            other.unwanted = True
        model.unwanted = any(not other.told for other in others)
        self.turns[user].append(model)
        self._close_inputs(user)
        return model

    def _close_inputs(self, user: str) -> None:
        for device in self.devices.values():
            device.is_fed = device.is_fed and device.user != user

    def _question(self, user: str, script: dict[str, Any]) -> Question:
        self.asked += 1
        return Question(user, self.asked, **script)

    @precondition(lambda self: self.devices)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        with self._step():
            device = self._device(data)
            device.newest = self._model(device.user, device.flow)
            device.starts.append(device.newest)
            device.is_fed = True
            self._send(device, "start")

    @rule(user=st.sampled_from(sorted(set(DEVICES.values()))), flow=st.sampled_from(FLOWS), script=QUESTIONS,
          read=st.sampled_from([0, 1, 3, 1000]))  # fmt: skip
    def post(self, user: str, flow: str, script: dict[str, Any], read: int) -> None:
        """A one-shot over HTTP, of which the client reads so many lines before it vanishes."""
        with self._step():
            user = f"{user}{self.examples}"
            question, model = self._question(user, script), self._model(user, flow)
            model.offered.append(question)
            model.ended = True
            scope = trio.CancelScope()
            self.posts.append(scope)
            self.world.run(self.nursery.start, self._post, flow, model, question, read, scope)

    async def _post(
        self, flow: str, model: TurnModel, question: Question, read: int, scope: trio.CancelScope,
        task_status: trio.TaskStatus[None],
    ) -> None:  # fmt: skip
        with scope:
            post = await Post.to(self.server, f"/{flow}/turns", {"user": model.user, "input": question.text})
            task_status.started()
            try:
                for _ in range(read):
                    event = await post.line()
                    if event is None:
                        assert model.is_over, "the answer ended before its turn"
                        break
                    assert post.status == 200, event
                    model.accept(Told.of_json(event))
            except AssertionError as error:
                self.faults.append(error)
            finally:
                if not model.is_over:
                    model.unwanted = model.unsure = True
                await post.vanish()

    @precondition(lambda self: self._feedable())
    @rule(data=st.data(), script=QUESTIONS)
    def send(self, data: st.DataObject, script: dict[str, Any]) -> None:
        with self._step():
            device = data.draw(st.sampled_from(self._feedable()))
            question = self._question(device.user, script)
            device.newest.offered.append(question)
            self._send(device, "input", data=question.text)

    @precondition(lambda self: [device for device in self._feedable() if device.flow == "live"])
    @rule(data=st.data())
    def send_to_the_last_stage(self, data: st.DataObject) -> None:
        with self._step():
            device = data.draw(st.sampled_from([device for device in self._feedable() if device.flow == "live"]))
            self.asked += 1
            text = f"{device.user}s{self.asked}"
            device.newest.offered.append(text)
            self._send(device, "input", data=text, entry="speaks")

    @precondition(lambda self: self._feedable())
    @rule(data=st.data(), waits=st.booleans())
    def end(self, data: st.DataObject, waits: bool) -> None:
        """No more input; unless it has an endless answer in it, the turn ends of itself."""
        with self._step():
            device = data.draw(st.sampled_from(self._feedable()))
            model = device.newest
            model.ended, device.is_fed = True, False
            self._send(device, "end")
            questions = [question for question in model.questions if question.words and question.each_s == ENDLESS_S]
            if waits and not questions:
                self._wait(lambda: model.is_over, f"the end of the turn of {model.offered}")

    @precondition(lambda self: self.devices)
    @rule(data=st.data(), waits=st.booleans())
    def interrupt(self, data: st.DataObject, waits: bool) -> None:
        with self._step():
            device = self._device(data)
            model, answers = device.newest, device.answers
            was_over = model is None or model.is_over
            told = 0 if model is None else [event.type for event in model.told].count("interrupted")
            if model is not None:
                model.stopped += 1
            self._send(device, "interrupt")

            def is_answered() -> bool:
                if device.answers > answers or model is None or was_over:
                    return device.answers > answers
                return model.is_over or [event.type for event in model.told].count("interrupted") > told

            if waits:
                self._wait(is_answered, "the answer to an interrupt")

    @rule(user=st.sampled_from(sorted(set(DEVICES.values()))))
    def interrupt_the_turn(self, user: str) -> None:
        with self._step():
            user = f"{user}{self.examples}"
            for model in self.turns[user]:
                model.unwanted = True
            self._close_inputs(user)
            self.world.run(interrupt, self.server, user)

    @precondition(lambda self: self.devices)
    @rule(data=st.data(), ms=st.sampled_from([0.0, 500 * SOUND_S, 1000 * SOUND_S]))
    def played(self, data: st.DataObject, ms: float) -> None:
        """A report on the last sound, if there has been one."""
        with self._step():
            device = self._device(data)
            model = device.current
            sounds = [event for event in model.told if event.type == "audio"] if model is not None else []
            if model is not None and sounds and not model.is_over:
                model.unsure = True
                self._send(device, "played", turn=sounds[-1].turn, seq=sounds[-1].seq, ms=ms)

    # ---- what does not fit, and what changes nothing

    @precondition(lambda self: self.devices)
    @rule(data=st.data(), frame=st.sampled_from(WRONG))
    def wrong(self, data: st.DataObject, frame: str) -> None:
        with self._step():
            device = self._device(data)
            device.wrong += 1
            self.world.run(device.socket.send_raw, frame)

    @precondition(lambda self: self.devices)
    @rule(data=st.data())
    def report_on_what_is_not(self, data: st.DataObject) -> None:
        with self._step():
            self._send(self._device(data), "played", turn=999, seq=7, ms=5)

    @precondition(lambda self: self.devices)
    @rule(data=st.data())
    def ping(self, data: st.DataObject) -> None:
        """Answered at any time, after a complaint about each frame before it that did not fit."""
        with self._step():
            device = self._device(data)
            device.pings += 1
            self._send(device, "ping")
            self._wait(lambda: device.pongs == device.pings, "a pong")
            assert device.complaints == device.wrong

    # ---- what the history holds

    @rule(user=st.sampled_from(sorted(set(DEVICES.values()))))
    def look_at_the_history(self, user: str) -> None:
        with self._step():
            user = f"{user}{self.examples}"
            place = self.server.places.get(user)
            turns = self.turns[user]
            if place is None or not all(turn.is_over or turn.unsure for turn in turns):
                return
            self._wait(lambda: not place.nursery.child_tasks, "the end of turns whose clients have gone")
            begun = sorted((turn for turn in turns if turn.begun), key=lambda turn: self.log.turns[turn.begun[0].name])
            compare(place.history.messages, [message for turn in begun for message in turn.messages()], 0)

    # ---- what there is

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        self.world.run(becomes, lambda: condition() or self.faults, what)
        self._no_faults()

    def _device(self, data: st.DataObject) -> Device:
        return self.devices[data.draw(st.sampled_from(sorted(self.devices)))]

    def _feedable(self) -> list[Any]:
        return [device for _, device in sorted(self.devices.items()) if device.is_fed]


def test_sockets_in_any_order_are_as_their_model_says(effort, count, caplog):
    caplog.set_level(logging.CRITICAL, "ezflow")  # of questions that fail
    log, world = Log(), World()
    world.start()
    ended = trio.Event()

    async def serve(task_status: trio.TaskStatus[Server]) -> None:
        async with serving(flows_with(log), idle_s=3600.0, capacity=2, ear=3) as server:
            task_status.started(server)
            await ended.wait()

    class Machine(SocketMachine):
        pass

    before = descriptors()
    try:
        Machine.world, Machine.log, Machine.found = world, log, []
        Machine.server = world.run(world.nursery.start, serve)
        world.run(_warm, Machine.server)
        try:
            run_state_machine_as_test(Machine, settings=effort(30, 600, stateful_step_count=30))
        except FlakyStrategyDefinition as error:
            raise (Machine.found or [error])[0] from error
        world.call(ended.set)
        world.run(becomes, lambda: not world.nursery.child_tasks, "the server's end")
        assert descriptors() == before
    finally:
        world.stop()
    count(examples=Machine.examples, steps=Machine.steps)


async def _warm(server: Server) -> None:
    """What a server begins with its first WebSocket stays."""
    async with trio.open_nursery() as nursery:
        socket = await Socket.connect(nursery, server, "text", "nobody")
        await socket.leave()
    place = server.places["nobody"]
    await becomes(lambda: not place.leases, "the first has left")
    place.leave()
    await becomes(lambda: not server.places, "its session ends")
    await trio.sleep(0.05)
