"""Driving a module's function: an item from the inbox, what it gives for it to the outbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from .channels import Inbox, Outbox, Receiver, Sender

__all__ = ["drive"]

END = object()


async def drive(
    function: Callable[..., Any],
    kind: str,
    rest: tuple[Any, ...],
    inbox: Inbox[Any],
    outbox: Outbox[Any],
    limiter: trio.CapacityLimiter | None,
) -> None:
    """Give each item of `inbox` to the function, and to `outbox` what it gives for it."""
    send = outbox.send
    if limiter is not None:
        async for item in inbox:
            await _in_thread(function, kind, (item, *rest), outbox, limiter)
    elif kind == "value":
        if isinstance(inbox, Receiver) and isinstance(outbox, Sender):
            await _drive_fast(function, rest, inbox, outbox)
            return
        async for item in inbox:
            await send(function(item, *rest))
    elif kind == "awaitable":
        async for item in inbox:
            await send(await function(item, *rest))
    elif kind == "iterator":
        async for item in inbox:
            for output in function(item, *rest):
                await send(output)
    else:
        async for item in inbox:
            outputs = function(item, *rest)
            try:
                async for output in outputs:
                    await send(output)
            except BaseException:
                # A generator that is left early must be closed here, in its own task, or it is never closed.
                if hasattr(outputs, "aclose"):
                    await outputs.aclose()
                raise


async def _drive_fast(
    function: Callable[..., Any], rest: tuple[Any, ...], inbox: Receiver[Any], outbox: Sender[Any]
) -> None:
    """The same for a synchronous function between two plain joins, where the joins are all of the cost."""
    offer, send = outbox.offer, outbox.send
    while items := await inbox.drain():
        for item in items:
            output = function(item, *rest)
            if not offer(output):
                await send(output)


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
