"""A client for one command. Loaded only when a command needs it, so that `--help` stays quick."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelry.client import Client


def connect() -> Client:
    """The client of the address, key and project in the environment (or the local home)."""
    from modelry.client import Client

    return Client()
