"""Running a flow in a test."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import Any, TypeVar

from ..flow import Flow

__all__ = ["collect"]

In = TypeVar("In")
Out = TypeVar("Out")


async def collect(flow: Flow[In, Out], items: Iterable[In] | AsyncIterable[In], **options: Any) -> list[Out]:
    """All that comes out of the flow for these items, in order; typeguard checks each item at each stage.

    `options` are a request's options: `await collect(flow, ["hi"], LLM={"temperature": 0})`.
    Raises: FlowError; TurnFailed, a flat group: `with pytest.RaisesGroup(ValueError): ...`.
    """
    return await flow.collect(items, options=options, debug=True)
