"""Which Host and Origin headers are answered, so that a web page elsewhere cannot drive a local service."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from modelry.core.errors import HostRefused
from modelry.core.settings import Settings
from modelry.server.api.errors import error_response

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})


class HostGuard:
    """Refuses other Hosts (a rebound name of a stranger) and other Origins (a stranger's page)."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._names = frozenset({settings.host.lower(), *settings.allowed_hosts})
        #: Beyond loopback a client may use any of the machine's addresses; a page cannot rebind a bare address.
        self._takes_addresses = _is_wildcard(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refused = self.check(Headers(scope=scope))
            if refused is not None:
                await error_response(refused)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def check(self, headers: Headers) -> HostRefused | None:
        """The refusal, or None for a request that may go on."""
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._is_ours(host):
            return HostRefused(header="Host", value=host)
        origin = headers.get("origin")
        if origin is not None and not _is_same(origin, host):
            return HostRefused(
                header="Origin", value=origin, remedy="Call the service from its own address."
            )
        return None

    def _is_ours(self, host: str) -> bool:
        name = _split(f"//{host}")[0]
        if name in self._names or name in _LOOPBACK_NAMES:
            return True
        address = _address(name)
        return address is not None and (address.is_loopback or self._takes_addresses)


def _is_same(origin: str, host: str) -> bool:
    """Whether an Origin names the host and port that were called."""
    scheme = origin.partition("://")[0].lower()
    default = _DEFAULT_PORTS.get(scheme)
    if default is None:
        return False
    name, port = _split(origin)
    called, called_port = _split(f"//{host}")
    return bool(name) and name == called and (port or default) == (called_port or default)


def _split(url: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(url)
        if parts.username is not None or parts.path or parts.query or parts.fragment:
            return "", None
        return (parts.hostname or "").removesuffix("."), parts.port
    except ValueError:
        return "", None


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_wildcard(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_unspecified
