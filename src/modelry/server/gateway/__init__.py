"""From a door to a replica and back: routes, keys, deadlines, retries. No database, no HTTP, no JSON."""

from modelry.server.gateway.access import Caller
from modelry.server.gateway.dispatch import Reply
from modelry.server.gateway.gateway import Gateway
from modelry.server.gateway.ticket import Ticket

__all__ = ["Caller", "Gateway", "Reply", "Ticket"]
