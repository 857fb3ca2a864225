"""Driving a module's function: an item from the inbox, what it gives for it to the outbox."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import trio

from .channels import Inbox, Outbox

__all__ = ["drive", "give_all"]

END = object()


async def drive(
    function: Callable[..., Any],
    kind: str,
    rest: tuple[Any, ...],
    inbox: Inbox[Any],
    outbox: Outbox[Any],
    limiter: trio.CapacityLimiter | None,
    answered: Callable[[], None],
) -> None:
    """Give each item of `inbox` to the function, and to `outbox` what it gives for it.

    `rest` are the further arguments of the function (its turn, if it takes one). `answered` is called when all
    of what an item gives has been given.
    """
    offer = getattr(outbox, "offer", _full)
    drain = getattr(inbox, "drain", None)
    if limiter is not None:
        async for item in inbox:
            await _in_thread(function, kind, (item, *rest), outbox, limiter)
            answered()
    elif kind == "value" and not rest and drain is not None:
        # A function that never waits may take all that its join holds; a slow stage must not empty it, or those
        # before it would run ahead.
        while items := await drain():
            await give_all(outbox, list(map(function, items)))
    elif kind == "value":
        async for item in inbox:
            output = function(item, *rest)
            if not offer(output):
                await outbox.send(output)
            answered()
    elif kind == "awaitable":
        async for item in inbox:
            output = await function(item, *rest)
            if not offer(output):
                await outbox.send(output)
            answered()
    elif kind == "iterator":
        async for item in inbox:
            for output in function(item, *rest):
                if not offer(output):
                    await outbox.send(output)
            answered()
    else:
        hooks = sys.get_asyncgen_hooks()
        async for item in inbox:
            outputs = aiter(function(item, *rest))
            # trio notes every generator when it is first asked, to close one that is forgotten; to this one that
            # cannot happen, and the note costs as much as an item. What it asks for itself is noted as ever.
            sys.set_asyncgen_hooks(None, None)
            first = outputs.__anext__()
            sys.set_asyncgen_hooks(*hooks)
            try:
                output = await first
                if not offer(output):
                    await outbox.send(output)
                async for output in outputs:
                    if not offer(output):
                        await outbox.send(output)
            except StopAsyncIteration:
                pass
            except BaseException:
                # A generator that is left early must be closed here, in its own task, or it is never closed.
                if hasattr(outputs, "aclose"):
                    await outputs.aclose()
                raise
            answered()


def _full(_: object) -> bool:
    """What an outbox without an `offer` would say to it."""
    return False


async def give_all(outbox: Outbox[Any], items: list[Any]) -> None:
    """Give the items in order, as many at once as there is room for."""
    offer_all = getattr(outbox, "offer_all", None)
    given = 0
    while given < len(items):
        if offer_all is not None:
            given += offer_all(items if not given else items[given:])
        if given < len(items):
            await outbox.send(items[given])
            given += 1


async def _in_thread(
    function: Callable[..., Any],
    kind: str,
    arguments: tuple[Any, ...],
    outbox: Outbox[Any],
    limiter: trio.CapacityLimiter,
) -> None:
    """A blocking step in a worker thread; a cancelled one is waited for, so no thread outlives its turn."""
    result = await trio.to_thread.run_sync(function, *arguments, limiter=limiter)
    if kind == "value":
        await outbox.send(result)
        return
    try:
        while (output := await trio.to_thread.run_sync(next, result, END, limiter=limiter)) is not END:
            await outbox.send(output)
    finally:
        if hasattr(result, "close"):
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(result.close, limiter=limiter)
