"""Waiting and threads, in both colours; the only pair that is written twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Args = ParamSpec("Args")
Result = TypeVar("Result")


async def async_sleep(seconds: float) -> None:
    """Lets other tasks run meanwhile."""
    await asyncio.sleep(seconds)


def sync_sleep(seconds: float) -> None:
    """Blocks the thread."""
    time.sleep(seconds)


async def async_call(
    call: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs
) -> Result:
    """A blocking call (a file's read) in a thread."""
    return await asyncio.to_thread(call, *args, **kwargs)


def sync_call(call: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs) -> Result:
    """The call itself."""
    return call(*args, **kwargs)
