"""The conformance suite: what every module must hold, whatever it does."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import trio
import trio.testing

from ..channels import Sink, every_step
from ..errors import EzflowError, ItemTypeError, StageStuck, flat
from ..flow import Flow
from ..items import Audio
from ..modules import Module
from ..open_turn import OpenTurn
from ..service import Limits, Service, Session, open_flows
from .watchdog import Watchdog

__all__ = ["Conformance", "ConformanceError", "check_module"]

# Once its output is blocked, a stage may finish what it has begun and take what its joins hold; not more.
GREED = 64


class ConformanceError(AssertionError):
    """A module broke one rule of the suite: `.rule` names it."""

    def __init__(self, rule: str, module: str, what: str) -> None:
        super().__init__(f"{module} breaks {rule!r}: {what}")
        self.rule = rule


@attrs.frozen
class Conformance:
    """What was checked: `points` is how many cancellation points were tried, `steps` how many there are."""

    module: Module[Any, Any]
    outputs: tuple[Any, ...]
    points: int
    steps: int


def _equal(a: Any, b: Any) -> bool:
    # What is compared by identity, as an Utterance is, can only be of the same type.
    by_identity: Any = object.__eq__
    return bool(a == b) or (type(a) is type(b) and type(a).__eq__ is by_identity)


def check_module(
    module: Module[Any, Any],
    samples: Sequence[Any],
    *,
    real: bool = False,
    points: int | None = None,
    same: Callable[[Any, Any], bool] = _equal,
    options: dict[str, Any] | None = None,
    within_s: float = 60.0,
) -> Conformance:
    """Run the conformance suite on a module with these samples of its input. A plain function: it runs trio itself.

    Rules: `types` (its outputs are what it declares), `end of input` (it ends when its input does, also an empty
    one), `cancellation` (cancelled at each of its checkpoints it leaves, gives nothing more, and the next turn
    works), `backpressure` (while nobody takes its output it stops taking input), `sessions` (two at once get what
    each gets alone), `release` (no task, thread or descriptor outlives it; it can be opened again).

    Without `real` the clock is virtual and every checkpoint is cancelled at. `real=True` is for modules with
    threads, sockets or real models: the real clock under a watchdog, and at most 20 cancellation points, evenly
    spread (`points` sets another number). `same(a, b)` compares outputs that are never quite equal; pieces of sound are
    compared joined, up to the next that bears a text.
    Raises: ConformanceError for the first rule that does not hold; FlowError if it does not even check.
    """
    if not samples:
        raise ValueError("the suite needs at least one sample of the module's input.")
    suite = _Suite(module, list(samples), real, points, same, options or {}, within_s)
    clock = None if real else trio.testing.MockClock(autojump_threshold=0)
    result: Conformance
    with every_step():
        result = suite.watchdog.run(suite.run, clock)
    return result


class _Suite:
    def __init__(
        self,
        module: Module[Any, Any],
        samples: list[Any],
        real: bool,
        points: int | None,
        same: Callable[[Any, Any], bool],
        options: dict[str, Any],
        within_s: float,
    ) -> None:
        self.module = module
        self.samples = samples
        self.real = real
        self.points = points
        self.same = same
        self.options = options
        self.within_s = within_s
        self.watchdog = Watchdog(2 * within_s)

    async def run(self) -> Conformance:
        limits = Limits(debug=True, capacity=1, cleanup_s=min(5.0, self.within_s))
        # The last stage of the flow under test checks what the module gives: a stage of the module's out type.
        watched: Flow[Any, Any] = self.module
        async with self._released():
            async with open_flows({"it": watched}, limits) as services:
                try:
                    outputs, points, steps = await self._rules(services["it"])
                except StageStuck as stuck:
                    raise self.broken("cancellation", str(stuck)) from stuck
        async with self._released(), open_flows({"it": watched}, limits) as services:
            async with services["it"].session("again") as session:
                await self._collect(session, self.samples[:1], "release")
        return Conformance(self.module, tuple(outputs), points, steps)

    async def _rules(self, service: Service) -> tuple[list[Any], int, int]:
        outputs = await self._end_of_input(service)
        points, steps = await self._cancellation(service)
        await self._backpressure(service)
        await self._sessions(service, outputs)
        return outputs, points, steps

    def broken(self, rule: str, what: str) -> ConformanceError:
        error = self._error(rule, what)
        self.watchdog.tell(error)  # while it is raised, a stuck stage may hold up the way out for ever
        return error

    def _error(self, rule: str, what: str) -> ConformanceError:
        return ConformanceError(rule, repr(self.module), what)

    # ---------------------------------------------------------------- running one turn

    async def _collect(self, session: Session, samples: Sequence[Any], rule: str) -> list[Any]:
        outputs: list[Any] = []
        turn = session.collecting(self.options, outputs)
        hint = "" if self.real else " If it uses sockets, threads or a real model, say real=True."
        no_end = f"no end {self.within_s:g} s after its input had ended.{hint}"
        self.watchdog.expect(self._error(rule, no_end))
        with trio.move_on_after(self.within_s) as patience:
            async with turn:
                await self._feed(session, turn, samples)
                async for _ in turn:
                    pass
        if patience.cancelled_caught:
            raise self.broken(rule, no_end)
        if turn.errors:
            error = turn.errors[0]
            if isinstance(error, ItemTypeError) and error.gives:
                raise self.broken("types", str(error)) from error
            raise self.broken(rule, f"it failed: {turn.errors[0]!r}.") from turn.errors[0]
        return outputs

    async def _feed(self, session: Session, turn: OpenTurn, samples: Sequence[Any]) -> None:
        async def feed() -> None:
            for sample in samples:
                await turn.send(sample)
            await turn.end()

        # Fed beside the reading: the events of a chatty module must not fill the ear meanwhile.
        session.place.nursery.start_soon(_quietly, feed)
        await trio.lowlevel.checkpoint()

    # ---------------------------------------------------------------- the rules

    async def _end_of_input(self, service: Service) -> list[Any]:
        async with service.session("end") as session:
            await self._collect(session, [], "end of input")
            return await self._collect(session, self.samples, "end of input")

    async def _cancellation(self, service: Service) -> tuple[int, int]:
        sample = self.samples[:1]
        async with service.session("count") as session:
            counter = _Counter(session)
            with counter:
                await self._collect(session, sample, "cancellation")
        steps = counter.steps
        wanted = self.points or (20 if self.real else steps)
        chosen = sorted({round(step * steps / wanted) for step in range(1, min(wanted, steps) + 1)})
        async with service.session("cancelled") as session:
            for point in chosen:
                await self._cancelled_at(session, sample, point)
            await self._collect(session, sample, "cancellation")
        return len(chosen), steps

    async def _cancelled_at(self, session: Session, sample: Sequence[Any], point: int) -> None:
        outputs: list[Any] = []
        turn = session.collecting(self.options, outputs)
        counter = _Counter(session, at=point, then=turn._scope.cancel)
        not_left = f"cancelled at checkpoint {point} it did not leave: it swallows Cancelled."
        self.watchdog.expect(self._error("cancellation", not_left))
        with trio.move_on_after(self.within_s) as patience, counter:
            async with turn:
                await self._feed(session, turn, sample)
                async for event in turn:
                    if event.type == "error":
                        raise self.broken(
                            "cancellation", f"cancelled at checkpoint {point} it failed: {event.error!r}."
                        ) from turn.errors[0]
        if patience.cancelled_caught:
            raise self.broken("cancellation", not_left)
        given = len(outputs)
        await trio.testing.wait_all_tasks_blocked(0.01 if self.real else 0)
        if len(outputs) != given:
            raise self.broken("cancellation", f"cancelled at checkpoint {point} it still gave {outputs[given:]!r}.")

    async def _backpressure(self, service: Service) -> None:
        taken = 0
        blocked_at: int | None = None

        class Blocked(Sink):
            async def send(self, item: Any) -> None:
                nonlocal blocked_at
                blocked_at = taken
                await trio.sleep_forever()

            def clone(self) -> Blocked:
                return self

        self.watchdog.expect(self._error("backpressure", "it goes no further while nobody takes what it gives."))
        async with service.session("slow") as session:
            turn = session._make(0, self.options, None, Blocked())
            async with turn, trio.open_nursery() as nursery:
                nursery.start_soon(_drain, turn)

                async def feed() -> None:
                    nonlocal taken
                    while blocked_at is None or taken <= blocked_at + 2 * GREED:
                        for sample in self.samples:
                            await turn.send(sample)
                            taken += 1
                        if blocked_at is None and taken > 10 * GREED:
                            return  # it gathers its input: it has nothing to be blocked on

                with trio.move_on_after(2.0 if self.real else self.within_s):
                    await feed()
                nursery.cancel_scope.cancel()
        if blocked_at is not None and taken > blocked_at + GREED + len(self.samples):
            raise self.broken(
                "backpressure", f"it took {taken - blocked_at} more items while nobody took what it gave."
            )

    async def _sessions(self, service: Service, alone: list[Any]) -> None:
        reverse = self.samples[::-1]
        async with service.session("alone") as session:
            again = await self._collect(session, self.samples, "sessions")
            reversed_alone = await self._collect(session, reverse, "sessions")
        if not self._alike(alone, again):
            raise self.broken("sessions", f"a later turn gave {again!r}, where the first gave {alone!r}.")
        together: dict[str, list[Any]] = {}

        async def one(user: str, samples: Sequence[Any]) -> None:
            async with service.session(user) as session:
                together[user] = await self._collect(session, samples, "sessions")

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one, "ann", self.samples)
                nursery.start_soon(one, "bob", reverse)
        except ExceptionGroup as group:
            raise flat(group)[0] from None
        for user, expected in (("ann", alone), ("bob", reversed_alone)):
            if not self._alike(together[user], expected):
                raise self.broken("sessions", f"beside another session it gave {together[user]!r}, alone {expected!r}.")

    def _alike(self, one: list[Any], other: list[Any]) -> bool:
        one, other = _joined(one), _joined(other)
        return len(one) == len(other) and all(map(self.same, one, other))

    def _released(self) -> _Released:
        return _Released(self)


def _joined(items: list[Any]) -> list[Any]:
    """The items, each sound with the pieces that go on with it: where a stream is cut is a matter of time."""
    joined: list[Any] = []
    for item in items:
        before = joined[-1] if joined else None
        if isinstance(item, Audio) and isinstance(before, Audio) and not item.text and _form(item) == _form(before):
            joined[-1] = attrs.evolve(before, pcm=before.pcm + item.pcm)
        else:
            joined.append(item)
    return joined


def _form(audio: Audio) -> tuple[int, int]:
    return audio.rate_hz, audio.channels


class _Released:
    """The `release` rule: what there was before is what there is after."""

    def __init__(self, suite: _Suite) -> None:
        self._suite = suite

    async def __aenter__(self) -> None:
        await self._settle()
        self._before = _census()

    async def __aexit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        if error is not None:
            return
        await self._settle()
        after = _census()
        for what, count in after.items():
            if count > self._before[what]:
                raise self._suite.broken(
                    "release", f"{count - self._before[what]} {what} more after it was closed than before."
                )

    async def _settle(self) -> None:
        gc.collect()
        await trio.testing.wait_all_tasks_blocked(0.05 if self._suite.real else 0)


def _census() -> dict[str, int]:
    root = trio.lowlevel.current_root_task()
    tasks, queue = 0, [root] if root is not None else []
    while queue:
        task = queue.pop()
        tasks += 1
        queue.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    # trio keeps idle worker threads for a while: they are its own, and bounded.
    threads = [thread for thread in threading.enumerate() if not thread.name.startswith("Trio thread")]
    return {"tasks": tasks, "threads": len(threads), "descriptors": descriptors}


class _Counter(trio.abc.Instrument):
    """Counts the steps of a session's tasks; at one of them it calls back."""

    def __init__(self, session: Session, at: int | None = None, then: Callable[[], None] | None = None) -> None:
        self._session = session
        self._at = at
        self._then = then
        self.steps = 0

    def __enter__(self) -> _Counter:
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(self, *_: object) -> None:
        trio.lowlevel.remove_instrument(self)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._of_session(task):
            self.steps += 1
            if self.steps == self._at and self._then is not None:
                self._then()

    def _of_session(self, task: trio.lowlevel.Task) -> bool:
        nursery = task.parent_nursery
        while nursery is not None:
            if nursery is self._session.place.nursery:
                return True
            nursery = nursery.parent_task.parent_nursery
        return False


async def _quietly(feed: Callable[[], Any]) -> None:
    try:
        await feed()
    except EzflowError:
        return  # the turn was over first


async def _drain(turn: OpenTurn) -> None:
    async for _ in turn:
        pass
