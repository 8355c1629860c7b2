"""The parts an endpoint answers with, and how this process stays in step with the others."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from modelry.artifacts import Artifacts
from modelry.core.bell import Bell
from modelry.core.errors import ModelryError, StoreUnavailable
from modelry.core.settings import Settings
from modelry.server.gateway import Gateway
from modelry.server.gateway.strangers import Strangers
from modelry.server.store import Store, routes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """Everything one web process holds."""

    settings: Settings
    store: Store
    artifacts: Artifacts
    gateway: Gateway
    bell: Bell
    #: The key of all HMACs.
    pepper: bytes
    strangers: Strangers

    async def announce(self) -> None:
        """After a write: this process knows before it answers, the others hear of it at once.

        The write is done whatever happens here: who misses the news finds it at the next poll.
        """
        self.bell.ring()
        try:
            await asyncio.to_thread(self.store.notify)
            await self.catch_up()
        except ModelryError as error:
            log.warning("written, but the news could not be read: %s", error)

    async def look_up(self, address: str) -> bool:
        """A key that is not known here: it may have been made elsewhere a moment ago. False: there is nothing new.

        Raises `TooManyWrongKeys` where the address has asked too often; the store is then not asked.
        """
        self.strangers.enter(address)
        try:
            return await self.catch_up()
        except StoreUnavailable:
            return False

    async def catch_up(self) -> bool:
        """Refreshes the gateway's snapshot if routes or keys changed; True if they had."""
        number = await asyncio.to_thread(self._read_number)
        if number == self.gateway.number:
            return False
        await self.gateway.refresh()
        return True

    def _read_number(self) -> int:
        with self.store.read() as tx:
            return routes.number(tx)
