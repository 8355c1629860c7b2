"""Garbage: content that nothing refers to any more is marked by the database and swept from the artifacts.

    row written ◄── after ── content put        so content without a row may be about to get one

Whoever puts content holds something open meanwhile: an upload or an unfinished job. What is younger than the oldest of
these is spared, and so is what is younger than the grace period.
"""

from __future__ import annotations

from modelry.artifacts import Artifacts, Swept
from modelry.server.store import Store, Transaction, projects, references, uploads

#: Seconds by which the clocks of the database and of the artifacts may differ.
CLOCK_DIFFERENCE_S = 1.0


def collect(store: Store, artifacts: Artifacts, grace_s: float) -> Swept:
    """Removes what nothing refers to; safe beside everything else, at any grace."""
    with store.read() as tx:
        referenced = references.digests(tx)
        older_than = min(tx.now() - grace_s, *_open_since(tx))
    return artifacts.sweep(referenced, older_than)


def _open_since(tx: Transaction) -> list[float]:
    """Since when content may have been put whose row is still to come."""
    begun = [
        upload.created_at
        for project in projects.list(tx)
        for upload in uploads.list(tx, project.name)
    ]
    oldest_job = references.oldest_unfinished(tx)
    if oldest_job is not None:
        begun.append(oldest_job)
    return [moment - CLOCK_DIFFERENCE_S for moment in begun] or [tx.now()]
