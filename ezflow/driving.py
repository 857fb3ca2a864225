"""Driving a module's function: an item from the inbox, what it gives for it to the outbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from .channels import Inbox, Outbox, Receiver

__all__ = ["drive"]

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
    if limiter is not None:
        async for item in inbox:
            await _in_thread(function, kind, (item, *rest), outbox, limiter)
            answered()
    elif kind == "value" and not rest and isinstance(inbox, Receiver):
        # A function that never waits may take all that its join holds; a slow stage must not empty it, or those
        # before it would run ahead.
        while items := await inbox.drain():
            for item in items:
                output = function(item)
                if not offer(output):
                    await outbox.send(output)
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
        async for item in inbox:
            outputs = function(item, *rest)
            try:
                async for output in outputs:
                    if not offer(output):
                        await outbox.send(output)
            except BaseException:
                # A generator that is left early must be closed here, in its own task, or it is never closed.
                if hasattr(outputs, "aclose"):
                    await outputs.aclose()
                raise
            answered()


def _full(_: object) -> bool:
    """What an outbox without an `offer` would say to it."""
    return False


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
