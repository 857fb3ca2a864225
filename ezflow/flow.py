"""A flow: an immutable value that says how a stream of `In` becomes a stream of `Out`."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar, overload

import attrs
import trio

from .branches import branches
from .channels import Inbox, Outbox, channel
from .errors import DefinitionError, EntryError
from .turn import Turn

if TYPE_CHECKING:
    from .check import Report
    from .modules import Module
    from .service import Service
    from .stage import Stage

__all__ = ["CAPACITY", "Flow", "Named", "Parallel", "Series", "Shown"]

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
X = TypeVar("X")
Y = TypeVar("Y")
Z = TypeVar("Z")

# Items a join holds. Large enough that a busy join rarely switches tasks, small enough that a slow stage is
# felt upstream within a sentence.
CAPACITY = 16


class Flow(Generic[In, Out]):
    """Anything that turns a stream of `In` into a stream of `Out`.

    `a >> b` runs in series, `a | b` in parallel (each gets every item, outputs are merged as they come).
    A flow is a value: equal when its parts are, sliceable at its stages (`flow[1:]`, `flow["llm":]`), and its
    repr can be pasted back. Composing never raises for types: `check()` and `open()` report all faults at once.
    """

    @property
    def parts(self) -> tuple[Flow[Any, Any], ...]:
        """The flows that this one is made of."""
        return ()

    def with_parts(self, parts: Sequence[Flow[Any, Any] | None]) -> Flow[Any, Any]:
        """The same flow over other parts, in the same order; `None` leaves one out."""
        raise NotImplementedError

    async def run(self, inbox: Inbox[In], outbox: Outbox[Out], turn: Turn) -> None:
        """Take everything from `inbox`, give what follows from it to `outbox`, and close both."""
        raise NotImplementedError

    # A class where an instance belongs: the checkers see `Never`, the run time an error that says what to write.
    @overload
    def __rshift__(self, other: type[Module[Any, Any]]) -> Never: ...
    @overload
    def __rshift__(self, other: Flow[Out, X]) -> Flow[In, X]: ...
    @overload
    def __rshift__(self, other: Callable[[Out], AsyncIterator[X]]) -> Flow[In, X]: ...
    @overload
    def __rshift__(self, other: Callable[[Out], Awaitable[X]]) -> Flow[In, X]: ...
    @overload
    def __rshift__(self, other: Callable[[Out], X]) -> Flow[In, X]: ...
    def __rshift__(self, other: Any) -> Any:
        return Series.of(self, as_flow(other))

    @overload
    def __rrshift__(self, other: Callable[[Y], AsyncIterator[In]]) -> Flow[Y, Out]: ...
    @overload
    def __rrshift__(self, other: Callable[[Y], Awaitable[In]]) -> Flow[Y, Out]: ...
    @overload
    def __rrshift__(self, other: Callable[[Y], In]) -> Flow[Y, Out]: ...
    def __rrshift__(self, other: Any) -> Any:
        return Series.of(as_flow(other), self)

    def __or__(self: Flow[Y, Z], other: Flow[Y, X]) -> Flow[Y, Z | X]:
        return Parallel.of(self, as_flow(other))

    @overload
    def __ror__(self: Flow[Y, Z], other: Callable[[Y], AsyncIterator[X]]) -> Flow[Y, X | Z]: ...
    @overload
    def __ror__(self: Flow[Y, Z], other: Callable[[Y], Awaitable[X]]) -> Flow[Y, X | Z]: ...
    @overload
    def __ror__(self: Flow[Y, Z], other: Callable[[Y], X]) -> Flow[Y, X | Z]: ...
    def __ror__(self, other: Any) -> Any:
        return Parallel.of(as_flow(other), self)

    def named(self, name: str) -> Flow[In, Out]:
        """The same stage under another name.

        Raises: DefinitionError if this is more than one stage, or the name is not an identifier.
        """
        return Named(self, name)

    def shown(self) -> Flow[In, Out]:
        """The same flow, and what it gives is replied to the client too."""
        return Shown(self)

    def budget(self, *, first_reply_s: float | None = None, total_s: float | None = None) -> Flow[In, Out]:
        """The same flow, once for each item, which has so many seconds: `llm.budget(first_reply_s=1.2, total_s=20)`.

        Within `first_reply_s` the client is told its first text or sound, or a first output is given on; within
        `total_s` all is done. The time counts from when the flow takes the item; of an Utterance, from the end of the
        speech. It stands still while something that has been made waits for the client, or for the next stage, to
        take it. When it is up the stages are cancelled, and when they have left, the item has failed with
        BudgetExceeded: `fallback` and `retry` take over if nothing has been heard yet, else the turn ends, with the
        reason `timeout`.
        Raises: ValueError without a limit, for one of 0 or less, and for a first reply later than the whole.
        """
        from .combine.budget import Budget

        return Budget(self, first_reply_s, total_s)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The modules in their places, depth first: a stage's index is the entry that a client may address."""
        from .stage import stages_of

        return stages_of(self)

    def __getitem__(self, key: int | str | slice) -> Flow[Any, Any]:
        """One stage, or a run of stages; an entry inside a combinator keeps it.

        `(vad >> Latest(asr >> llm))[2:] == Latest(llm)`; inside a branch of `|`, `route`, `fallback` or `race`
        that branch is run, then what follows; at the first stage of a combinator, all of it.
        Raises: EntryError if there is no such stage.
        """
        names = [stage.name for stage in self.stages]
        if isinstance(key, slice):
            if key.step is not None:
                raise DefinitionError("a flow has no step: write flow[1:3].")
            start = 0 if key.start is None else _index(key.start, names)
            stop = len(names) if key.stop is None else _index(key.stop, names, end=True)
        else:
            start = _index(key, names)
            stop = start + 1
        piece = cut(self, start, stop) if start < stop else None
        if piece is None:
            raise EntryError(f"{start}:{stop}", names)
        return piece

    def check(self) -> Report:
        """The startup check: every stage with its types, and all faults at once. Never raises for a fault."""
        from .check import check

        return check(self)

    def open(self, **limits: Any) -> AbstractAsyncContextManager[Service]:
        """Check the flow and open its modules: `async with flow.open() as service`.

        Takes the fields of `ezflow.service.Limits` as keywords.
        Raises: FlowError with all faults; ModuleOpenError with the module whose `lifespan` failed; SettingsError;
        StoreError.
        """
        from .service import open_flow

        return open_flow(self, **limits)

    async def collect(
        self,
        items: Iterable[In] | AsyncIterable[In],
        *,
        options: Mapping[str, Any] | None = None,
        **limits: Any,
    ) -> list[Out]:
        """Open the flow, run one turn on the items, and return all that comes out, in order.

        Raises: FlowError; ModuleOpenError; TurnFailed, a flat group of what the stages raised.
        """
        from .service import collect

        return await collect(self, items, options=options, **limits)


@attrs.frozen(repr=False)
class _Several(Flow[In, Out]):
    flows: tuple[Flow[Any, Any], ...]

    @property
    def parts(self) -> tuple[Flow[Any, Any], ...]:
        return self.flows

    @classmethod
    def of(cls, *flows: Flow[Any, Any]) -> Flow[Any, Any]:
        """The flows in this order; a series inside a series is one series, and so with `|`."""
        parts: list[Flow[Any, Any]] = []
        for flow in flows:
            parts.extend(flow.parts if isinstance(flow, cls) else (flow,))
        return parts[0] if len(parts) == 1 else cls(tuple(parts))

    def with_parts(self, parts: Sequence[Flow[Any, Any] | None]) -> Flow[Any, Any]:
        return self.of(*(part for part in parts if part is not None))


@attrs.frozen(repr=False)
class Series(_Several[In, Out]):
    """`a >> b`: each stage a task, each join a bounded channel."""

    async def run(self, inbox: Inbox[In], outbox: Outbox[Out], turn: Turn) -> None:
        joins = [channel(turn.capacity) for _ in self.parts[1:]]
        inboxes: list[Inbox[Any]] = [inbox, *(take for _, take in joins)]
        outboxes: list[Outbox[Any]] = [*(give for give, _ in joins), outbox]
        for part, (join, _) in zip(self.parts[1:], joins, strict=True):
            turn.state.joined(part, join)
        async with trio.open_nursery() as nursery:
            for part, take, give in list(zip(self.parts, inboxes, outboxes, strict=True))[1:]:
                nursery.start_soon(part.run, take, give, turn)
            # The first part runs in this task: it is at work at once, and there is one task fewer to start.
            await self.parts[0].run(inboxes[0], outboxes[0], turn)

    def __repr__(self) -> str:
        return " >> ".join(f"({part!r})" if isinstance(part, Parallel) else repr(part) for part in self.parts)


@attrs.frozen(repr=False)
class Parallel(_Several[In, Out]):
    """`a | b`: each gets every item; outputs are merged as they come, so no branch waits for another.

    A branch that has finished early is left out; the others go on. An item waits until each branch has room
    for it: the slowest branch sets the pace.
    """

    async def run(self, inbox: Inbox[In], outbox: Outbox[Out], turn: Turn) -> None:
        async with branches(self.parts, outbox, turn) as doors:
            async for item in inbox:
                for door in doors.open():
                    await door.give(item)
                if not doors.open():
                    break
            inbox.close()

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.parts))


@attrs.frozen(repr=False)
class Named(Flow[In, Out]):
    """One stage under a name of the user's."""

    flow: Flow[In, Out]
    name: str

    def __attrs_post_init__(self) -> None:
        if not self.name.isidentifier():
            raise DefinitionError(f"{self.name!r} cannot name a stage: use letters, digits and _ (an identifier).")
        if size(self.flow) != 1:
            raise DefinitionError(
                f"Only one stage can be named {self.name!r}, and this flow has {size(self.flow)}: "
                "name a stage where it stands."
            )

    @property
    def parts(self) -> tuple[Flow[Any, Any], ...]:
        return (self.flow,)

    def with_parts(self, parts: Sequence[Flow[Any, Any] | None]) -> Flow[Any, Any]:
        (part,) = parts
        return self if part is None else Named(part, self.name)

    def __repr__(self) -> str:
        return f"{grouped(self.flow)}.named({self.name!r})"


@attrs.frozen(repr=False)
class Shown(Flow[In, Out]):
    """A flow whose output is replied to the client too."""

    flow: Flow[In, Out]

    @property
    def parts(self) -> tuple[Flow[Any, Any], ...]:
        return (self.flow,)

    def with_parts(self, parts: Sequence[Flow[Any, Any] | None]) -> Flow[Any, Any]:
        (part,) = parts
        return self if part is None else Shown(part)

    def __repr__(self) -> str:
        return f"{grouped(self.flow)}.shown()"


def as_flow(value: Any) -> Flow[Any, Any]:
    """A flow as it is; an annotated function as a module.

    Raises: DefinitionError for a class, a function without annotations, or anything else.
    """
    if isinstance(value, Flow):
        return value
    if isinstance(value, type):
        raise DefinitionError(f"{value.__name__} is a class: write {value.__name__}(), with its parentheses.")
    if callable(value):
        from .modules import FunctionModule

        return FunctionModule(value)
    raise DefinitionError(f"{value!r} ({type(value).__name__}) is no flow: a module or a function is needed.")


def size(flow: Flow[Any, Any]) -> int:
    """How many stages it has."""
    return sum(map(size, flow.parts)) if flow.parts else 1


def cut(flow: Flow[Any, Any], start: int, stop: int) -> Flow[Any, Any] | None:
    """The stages from `start` to before `stop`, their combinators kept; None if there are none."""
    count = size(flow)
    if start <= 0 and stop >= count:
        return flow
    if stop <= 0 or start >= count:
        return None
    if isinstance(flow, Shown) and stop < count:
        return cut(_shown_inside(flow.flow), start, stop)
    pieces: list[Flow[Any, Any] | None] = []
    offset = 0
    for part in flow.parts:
        pieces.append(cut(part, start - offset, stop - offset))
        offset += size(part)
    if start > 0 and len(pieces) > 1 and not isinstance(flow, Series):
        return next(piece for piece in pieces if piece is not None)  # an entry inside a branch
    return flow.with_parts(pieces)


def _shown_inside(flow: Flow[Any, Any]) -> Flow[Any, Any]:
    """The same, each stage marked whose output is what the flow gives."""
    if not flow.parts:
        return Shown(flow)
    last = len(flow.parts) - 1
    return flow.with_parts(
        [
            _shown_inside(part) if place == last or not isinstance(flow, Series) else part
            for place, part in enumerate(flow.parts)
        ]
    )


def _index(key: object, names: Sequence[str], end: bool = False) -> int:
    if isinstance(key, str):
        if key not in names:
            raise EntryError(key, names)
        return names.index(key)
    if isinstance(key, bool) or not isinstance(key, int):
        raise DefinitionError(f"{key!r} is no entry: an index or a stage's name is needed.")
    index = key + len(names) if key < 0 else key
    if not 0 <= index < len(names) + end:
        raise EntryError(key, names)
    return index


def grouped(flow: Flow[Any, Any]) -> str:
    """Its repr, in parentheses where a method could not follow."""
    return f"({flow!r})" if isinstance(flow, Series | Parallel) else repr(flow)
