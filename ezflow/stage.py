"""A stage: a module in its place in a flow, and what the engine does around it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import trio

from . import context
from .channels import Inbox, Outbox, ReceiverGone
from .errors import NOT_ITS_OWN, StageError, flat
from .flow import Flow, Named, Series, Shown
from .instrument import watched
from .modules import Module
from .turn import Turn

__all__ = ["Stage", "bind", "heads", "map_stages", "stages_of"]

log = logging.getLogger("ezflow")

# What keeps a nursery or a cancel scope open most often is a generator that nobody closes.
AND_GENERATORS = "and leave a generator that yields within one by `async with aclosing(...)`."


@attrs.frozen(repr=False)
class Stage(Flow[Any, Any]):
    """A module's place: its 0-based index and name, the entry that a client may address."""

    index: int
    name: str
    module: Module[Any, Any]
    is_shown: bool = False
    guard: Callable[[object], None] | None = attrs.field(default=None, eq=False)
    out_guard: Callable[[object], None] | None = attrs.field(default=None, eq=False)

    def __repr__(self) -> str:
        return self.name

    @property
    def in_type(self) -> Any:
        return self.module.in_type

    @property
    def out_type(self) -> Any:
        return self.module.out_type

    async def run(self, inbox: Inbox[Any], outbox: Outbox[Any], turn: Turn) -> None:
        """Run the module on one turn's stream; an error of its own comes out as a StageError with its name."""
        view = turn.at(self.name)
        state = turn.state
        take, give = watched(inbox, outbox, view.instruments, view, self.name)
        if self.guard is not None:
            take = _GuardedInbox(take, self.guard)
        if self.is_shown or self.module.form is None or self.module.form.takes_turn:
            give = _StageOutbox(give, view, self.is_shown)
        if self.out_guard is not None:
            give = _GuardedOutbox(give, self.out_guard)
        failure: BaseException | None = None
        here = context.here.set(view)
        task: Any = trio.lowlevel.current_task()
        within = _innermost(task)
        state.enter(view)
        try:
            try:
                await self.module.run(take, give, view)
            except BaseException as own:
                if _innermost(task) is not within:
                    await _end_left_open(task, within, own)
                raise
            if _innermost(task) is not within:
                await _end_left_open(task, within)
            view.answered()
        except ReceiverGone:
            pass  # whoever this stage gives to has finished: it has nothing left to do
        except NOT_ITS_OWN:
            raise
        except BaseExceptionGroup as group:
            failure = group
            self._raise_own(group)
        except BaseException as error:  # SystemExit, and the panic of a Rust extension: one turn's, not the server's
            failure = error
            raise StageError(self.name, [error]) from error
        finally:
            state.leave(view, failure)
            context.here.reset(here)
            inbox.close()
        # Not when it has failed: to a stage that gathers, that would look like the end of what there is to gather.
        outbox.close()

    def _raise_own(self, group: BaseExceptionGroup[BaseException]) -> None:
        leaves = [leaf for leaf in flat(group) if not isinstance(leaf, ReceiverGone)]
        errors = [leaf for leaf in leaves if not isinstance(leaf, NOT_ITS_OWN)]
        if errors and len(errors) == len([leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled)]):
            raise StageError(self.name, errors) from group
        if leaves:
            raise group  # only Cancelled, or something like KeyboardInterrupt: not the stage's to name


def _innermost(task: Any) -> Any:
    """What trio keeps of the innermost nursery or cancel scope that a task is in.

    It is trio's own: to enter a scope for each stage, and see whether it can be left, would cost every turn. Where a
    trio has it no more, what is left open is left to trio.
    """
    return getattr(task, "_cancel_status", None)


async def _end_left_open(task: Any, within: Any, own: BaseException | None = None) -> None:
    """End the nurseries and cancel scopes that a module has entered by hand and not left, and what runs in them.

    Trio would notice only at the end of the task, and end all users' turns for a nursery. `within`: the innermost
    before. `own`: what the module itself raised. Raises: BaseExceptionGroup.
    """
    names, nurseries, scopes = list[str](), 0, 0
    errors = [leaf for leaf in flat(own) if not isinstance(leaf, trio.Cancelled)] if own is not None else []
    while (innermost := _innermost(task)) is not within:
        scope = innermost._scope
        nursery = task.child_nurseries[-1] if task.child_nurseries else None
        if nursery is None or nursery.cancel_scope is not scope:
            scopes += 1
            scope.__exit__(None, None, None)
            continue
        nurseries += 1
        names += [repr(child.name) for child in nursery.child_tasks]
        scope.cancel()
        # Who has a nursery has no way to leave it; only the manager that made it does, and that is lost.
        manager: Any = trio.open_nursery()
        manager._nursery, manager._scope = nursery, scope
        try:
            await manager.__aexit__(None, None, None)
        except BaseException as error:  # noqa: BLE001  (it is raised below, with what it belongs to)
            errors += [leaf for leaf in flat(error) if not isinstance(leaf, trio.Cancelled)]
    faults = list[BaseException]()
    if nurseries:
        ran = ", ".join(names) or "nothing"
        write = f"Write `async with trio.open_nursery() as nursery:`, which waits for its tasks, {AND_GENERATORS}"
        faults.append(RuntimeError(f"it has left a nursery open, in which there ran: {ran}. {write}"))
    if scopes:
        write = f"Write `with trio.CancelScope() as scope:`, {AND_GENERATORS}"
        faults.append(RuntimeError(f"it has left a cancel scope open. {write}"))
    raise BaseExceptionGroup("something was left open", [*faults, *errors]) from own


class _StageOutbox:
    """The outbox of one stage: its items are told to the client first, if they are shown, and remembered as its
    answer, if it has been asked something (`turn.remember`).
    """

    __slots__ = ("_is_shown", "_offer", "_outbox", "_turn")

    def __init__(self, outbox: Outbox[Any], turn: Turn, is_shown: bool) -> None:
        self._outbox = outbox
        self._turn = turn
        self._is_shown = is_shown
        self._offer = getattr(outbox, "offer", None)

    async def send(self, item: Any) -> None:
        given = False
        if self._is_shown:
            await self._turn.reply(item)  # which looks for cancellation, so that giving need not
            given = self._offer is not None and self._offer(item)
        if not given:
            await self._outbox.send(item)
        self._turn.gave(item)

    def offer(self, item: Any) -> bool:
        """Give an item if that needs no waiting."""
        if self._is_shown or self._offer is None or not self._offer(item):
            return False
        self._turn.gave(item)
        return True

    def clone(self) -> _StageOutbox:
        return _StageOutbox(self._outbox.clone(), self._turn, self._is_shown)

    def close(self) -> None:
        self._outbox.close()


class _GuardedInbox:
    """An inbox whose items are checked, where the startup check could not decide or in debug mode."""

    def __init__(self, inbox: Inbox[Any], guard: Callable[[object], None]) -> None:
        self._inbox = inbox
        self._guard = guard

    async def receive(self) -> Any:
        item = await self._inbox.receive()
        self._guard(item)
        return item

    def __aiter__(self) -> _GuardedInbox:
        return self

    async def __anext__(self) -> Any:
        item = await self._inbox.__anext__()
        self._guard(item)
        return item

    def close(self) -> None:
        self._inbox.close()


class _GuardedOutbox:
    """An outbox whose items are checked before the client is told of them, in debug mode."""

    def __init__(self, outbox: Outbox[Any], guard: Callable[[object], None]) -> None:
        self._outbox = outbox
        self._guard = guard

    async def send(self, item: Any) -> None:
        self._guard(item)
        await self._outbox.send(item)

    def clone(self) -> _GuardedOutbox:
        return _GuardedOutbox(self._outbox.clone(), self._guard)

    def close(self) -> None:
        self._outbox.close()


def bind(flow: Flow[Any, Any]) -> Flow[Any, Any]:
    """The same flow with its modules in their places: every leaf a Stage, names and marks resolved.

    A name that occurs again gets a number: `upper`, `upper_2`.
    """
    return _bind(flow, _Names(flow), None, False)


def stages_of(flow: Flow[Any, Any]) -> tuple[Stage, ...]:
    """The stages of a flow, bound or not, depth first."""
    return tuple(_leaves(bind(flow)))


def map_stages(flow: Flow[Any, Any], change: Callable[[Stage], Stage]) -> Flow[Any, Any]:
    """A bound flow with each of its stages changed."""
    if isinstance(flow, Stage):
        return change(flow)
    return flow.with_parts([map_stages(part, change) for part in flow.parts])


def heads(flow: Flow[Any, Any]) -> tuple[Stage, ...]:
    """The stages of a bound flow that its input goes to."""
    if isinstance(flow, Stage):
        return (flow,)
    parts = flow.parts[:1] if isinstance(flow, Series) else flow.parts
    return tuple(stage for part in parts for stage in heads(part))


def _leaves(flow: Flow[Any, Any]) -> Iterator[Stage]:
    if isinstance(flow, Stage):
        yield flow
    for part in flow.parts:
        yield from _leaves(part)


class _Names:
    """Gives each stage its index and name; names that the user chose are taken first."""

    def __init__(self, flow: Flow[Any, Any]) -> None:
        self._used = set(_chosen(flow))
        self._index = -1

    def place(self, module: Module[Any, Any], chosen: str | None) -> tuple[int, str]:
        self._index += 1
        if chosen is not None:
            return self._index, chosen
        name, number = module.name, 1
        while name in self._used:
            number += 1
            name = f"{module.name}_{number}"
        self._used.add(name)
        return self._index, name


def _chosen(flow: Flow[Any, Any]) -> Iterator[str]:
    if isinstance(flow, Named):
        yield flow.name
    for part in flow.parts:
        yield from _chosen(part)


def _bind(flow: Flow[Any, Any], names: _Names, name: str | None, is_shown: bool) -> Flow[Any, Any]:
    if isinstance(flow, Stage):
        return attrs.evolve(flow, is_shown=flow.is_shown or is_shown)
    if isinstance(flow, Module):
        return Stage(*names.place(flow, name), flow, is_shown)
    if isinstance(flow, Named):
        return _bind(flow.flow, names, name or flow.name, is_shown)
    if isinstance(flow, Shown):
        return _bind(flow.flow, names, name, True)
    last = len(flow.parts) - 1
    shown = [is_shown and (index == last or not isinstance(flow, Series)) for index in range(last + 1)]
    return flow.with_parts([_bind(part, names, name, mark) for part, mark in zip(flow.parts, shown, strict=True)])
