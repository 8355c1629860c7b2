"""The store: tables, migrations, leases and queries. SQLAlchemy is imported in this package only."""

from modelry.server.store.db import BUSY_TIMEOUT_S, Store
from modelry.server.store.transaction import Transaction

__all__ = ["BUSY_TIMEOUT_S", "Store", "Transaction"]
