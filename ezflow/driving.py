"""Driving a module's function: an item from the inbox, what it gives for it to the outbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
    answered: Callable[[], None],
) -> None:
    """Give each item of `inbox` to the function, and to `outbox` what it gives for it.

    `answered` is called when all of what an item gives has been given.
    """
    offer, send = getattr(outbox, "offer", _full), outbox.send
    # A function that never waits may take all that its join holds; a slow stage must not empty it, or those
    # before it would run ahead.
    quick = kind == "value" and limiter is None and isinstance(outbox, Sender)
    take = inbox.drain if quick and isinstance(inbox, Receiver) else _one_from(inbox)
    while items := await take():
        for item in items:
            if limiter is not None:
                await _in_thread(function, kind, (item, *rest), outbox, limiter)
            elif kind == "value" or kind == "awaitable":
                output = function(item, *rest)
                if kind == "awaitable":
                    output = await output
                if not offer(output):
                    await send(output)
            elif kind == "iterator":
                for output in function(item, *rest):
                    if not offer(output):
                        await send(output)
            else:
                outputs = function(item, *rest)
                try:
                    async for output in outputs:
                        if not offer(output):
                            await send(output)
                except BaseException:
                    # A generator that is left early must be closed here, in its own task, or it is never closed.
                    if hasattr(outputs, "aclose"):
                        await outputs.aclose()
                    raise
            if rest:
                answered()


def _full(_: object) -> bool:
    return False


def _one_from(inbox: Inbox[Any]) -> Callable[[], Awaitable[list[Any]]]:
    async def take() -> list[Any]:
        try:
            return [await inbox.receive()]
        except trio.EndOfChannel:
            return []

    return take


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
