"""One request as its door holds it, and the moment it is late.

One timer serves all requests that end in the same moment: at thousands of requests a second, nearly all answered in
time, a timer of the event loop for each would cost more than the choice of its replica.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from modelry.core.errors import DeadlineExceeded, ModelryError
from modelry.core.frames import Op
from modelry.server.gateway.admission import Permit
from modelry.server.gateway.dispatch import Dispatch, Pending, Reply, RouteKey

log = logging.getLogger(__name__)

#: How long a moment is: a deadline is kept so much late at most, and never early.
SLOT_S = 0.01


class Ticket(Pending):
    """A request that was let in. Its door cancels it when the client is gone."""

    __slots__ = ("_dispatch", "_limit_s", "_permit", "slot")

    def __init__(
        self,
        dispatch: Dispatch,
        permit: Permit,
        key: RouteKey,
        payload: bytes,
        on_settled: Callable[[Reply | ModelryError], None],
        *,
        pinned: int | None,
        op: Op,
        limit_s: float,
        trace: bytes,
    ) -> None:
        super().__init__(
            key,
            payload,
            on_settled,
            pinned=pinned,
            op=op,
            deadline_at=time.monotonic() + limit_s,
            trace=trace,
        )
        self._dispatch = dispatch
        self._permit = permit
        self._limit_s = limit_s
        #: The others that end in the same moment; the deadlines are its owner.
        self.slot: dict[int, Ticket] = {}

    def moved(self, version: int | None) -> None:
        """Its place in the counts."""
        self._permit.moved(version)

    def settle(self, answer: Reply | ModelryError) -> None:
        """Gives the permit back and answers; a door that breaks over an answer breaks nothing else."""
        self._leave(answer, len(answer.payload) if isinstance(answer, Reply) else 0)
        try:
            super().settle(answer)
        except Exception:
            log.exception("answer not delivered")

    def cancel(self) -> None:
        """The client is gone: the work is dropped wherever it is, and nothing is answered."""
        if not self.is_settled:
            self._dispatch.abandon(self)
            self._leave(None, 0)

    def expire(self) -> None:
        """Its deadline has passed."""
        self._dispatch.abandon(self, DeadlineExceeded(deadline_s=self._limit_s))

    def _leave(self, outcome: Reply | ModelryError | None, bytes_out: int) -> None:
        self.slot.pop(self.id, None)
        self._permit.leave(outcome, bytes_out=bytes_out)


class Deadlines:
    """Tickets by the moment of their end."""

    def __init__(self) -> None:
        self._slots: dict[int, dict[int, Ticket]] = {}

    def add(self, ticket: Ticket) -> None:
        """Watches a ticket until it is settled or cancelled."""
        number = int(ticket.deadline_at / SLOT_S) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
            delay_s = max(0.0, number * SLOT_S - time.monotonic())
            asyncio.get_running_loop().call_later(delay_s, self._end, number)
        slot[ticket.id] = ticket
        ticket.slot = slot

    def _end(self, number: int) -> None:
        for ticket in list(self._slots.pop(number).values()):
            ticket.expire()
