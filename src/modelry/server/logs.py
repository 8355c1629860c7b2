"""How the service's processes log: `words key=value` lines for people, or the same as JSON for programs.

Bodies, keys and secrets are in no line; a request is named by its id alone, and only where something of ours broke.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime

import msgspec

from modelry.core.settings import Settings

_TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_PAIR = re.compile(r"(?<!\S)([a-z][a-z_]*)=(\S+)")
_OWN = frozenset({"at", "level", "logger", "message", "trace"})


def start_logging(settings: Settings) -> None:
    """Sends all lines to standard error in the format of the settings."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if settings.log_format == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)


class JsonLines(logging.Formatter):
    """One object a line; what a message says as `key=value` is a field as well."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        message = record.getMessage()
        pairs = {name: value for name, value in _PAIR.findall(message) if name not in _OWN}
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
            **pairs,
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()
