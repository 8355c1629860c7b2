"""How Alembic runs our steps: on the connection and in the transaction of `migrating.migrate`."""

from __future__ import annotations

from alembic import context

from modelry.server.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
