"""What one web process counts, for as long as it lives: its table, and the journal that is written from it."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from modelry.core.errors import StorageFull
from modelry.core.home import Home
from modelry.server.gateway.counters import Counters
from modelry.server.gateway.journal import Journal
from modelry.server.gateway.table import process_name


@asynccontextmanager
async def counting(home: Home, index: int) -> AsyncIterator[Counters]:
    """The counters of web process `index`; what they hold at the end is written down."""
    process = process_name(f"web{index}")
    try:
        counters = Counters.open(home.counters, process)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(place=str(home.counters)) from error
        raise
    journal = asyncio.create_task(Journal(home.usage, process).keep(counters))
    try:
        yield counters
    finally:
        journal.cancel()
        await asyncio.gather(journal, return_exceptions=True)
        counters.close()
