"""Who leads: a row with an epoch that grows by one with each new leader, timed by the database's clock.

    free or expired ── acquire ──► held (epoch + 1) ── renew ──► held ── release, or time ──► free

A leader's every write happens between two looks at its row (`check`), in one transaction, so that one who was
stopped and woken again can change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, update

from modelry.core.errors import StaleEpoch
from modelry.server.store.database import clock
from modelry.server.store.tables import leases
from modelry.server.store.transaction import Transaction

#: The lease of the controllers.
CONTROLLER = "controller"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A leader and its time."""

    name: str
    holder: str
    epoch: int
    #: Since when this holder leads.
    acquired_at: float
    expires_at: float
    #: False once its time is over; nobody may lead just now.
    is_held: bool


def acquire(tx: Transaction, name: str, holder: str, duration_s: float) -> int | None:
    """The new epoch, or None while somebody else leads. Who leads already keeps its epoch."""
    renewed = tx.execute(
        update(leases)
        .where(leases.c.name == name, leases.c.holder == holder, leases.c.expires_at > clock())
        .values(expires_at=clock() + duration_s)
        .returning(leases.c.epoch)
    ).scalar_one_or_none()
    if renewed is not None:
        return int(renewed)
    taken = tx.execute(
        update(leases)
        .where(leases.c.name == name, leases.c.expires_at <= clock())
        .values(
            holder=holder,
            epoch=leases.c.epoch + 1,
            acquired_at=clock(),
            expires_at=clock() + duration_s,
        )
        .returning(leases.c.epoch)
    ).scalar_one_or_none()
    if taken is not None:
        return int(taken)
    first = {
        "name": name,
        "holder": holder,
        "epoch": 1,
        "acquired_at": clock(),
        "expires_at": clock() + duration_s,
    }
    return 1 if tx.insert_new(leases, first) else None


def renew(tx: Transaction, name: str, holder: str, epoch: int, duration_s: float) -> bool:
    """Leads for `duration_s` from now. False once the lease has run out: it must be acquired again."""
    return (
        tx.change(
            update(leases)
            .where(
                leases.c.name == name,
                leases.c.holder == holder,
                leases.c.epoch == epoch,
                leases.c.expires_at > clock(),
            )
            .values(expires_at=clock() + duration_s)
        )
        == 1
    )


def release(tx: Transaction, name: str, holder: str, epoch: int) -> None:
    """Ends the lease now, so that the next leader need not wait for its time."""
    tx.change(
        update(leases)
        .where(leases.c.name == name, leases.c.holder == holder, leases.c.epoch == epoch)
        .values(expires_at=clock())
    )


def check(tx: Transaction, name: str, epoch: int) -> None:
    """Holds the row until the transaction ends; raises `StaleEpoch` unless this epoch leads now."""
    row = tx.execute(
        select(leases.c.epoch, (leases.c.expires_at > clock()).label("is_held"))
        .where(leases.c.name == name)
        .with_for_update(read=True)
    ).one_or_none()
    if row is None or row.epoch != epoch or not row.is_held:
        raise StaleEpoch(epoch=epoch, current=row.epoch if row else "nobody")


def find(tx: Transaction, name: str = CONTROLLER) -> Lease | None:
    """The lease as it stands, for people; None before the first leader."""
    row = tx.execute(
        select(leases, (leases.c.expires_at > clock()).label("is_held")).where(
            leases.c.name == name
        )
    ).one_or_none()
    if row is None:
        return None
    return Lease(
        name=row.name,
        holder=row.holder,
        epoch=row.epoch,
        acquired_at=row.acquired_at,
        expires_at=row.expires_at,
        is_held=bool(row.is_held),
    )
