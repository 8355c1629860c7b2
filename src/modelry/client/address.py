"""Where the service is and which key to show it: arguments, then environment, then the local home."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from modelry.core.errors import InvalidSetting
from modelry.core.home import Home

DEFAULT_URL = "http://127.0.0.1:8642"


@dataclass(frozen=True, slots=True)
class Address:
    """A service, and who is calling."""

    url: str
    key: str | None
    #: Named with every call of an instance key; None means the key's own, or `default`.
    project: str | None

    def __repr__(self) -> str:
        return f"Address({self.url}, key={'***' if self.key else None}, project={self.project})"

    @property
    def is_loopback(self) -> bool:
        """True where the service is on this machine; proxies are passed by then."""
        return is_loopback(self.url)


def find_home(environ: Mapping[str, str] = os.environ) -> Home:
    """The local home: `MODELRY_HOME`, else `~/.modelry`."""
    return Home(Path(environ.get("MODELRY_HOME") or "~/.modelry").expanduser().absolute())


def find_address(
    url: str | None = None,
    key: str | None = None,
    project: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Address:
    """The service to talk to.

    The admin key of the home is shown to the service of this home or of this machine only, never to a
    stranger's address.
    """
    home = find_home(environ)
    local_url = read_service_url(home)
    found = url or environ.get("MODELRY_URL") or local_url or DEFAULT_URL
    found = _check_url(found)
    key = key or environ.get("MODELRY_KEY") or None
    if key is None and (is_loopback(found) or found == local_url):
        key = _read_admin_key(home)
    return Address(url=found, key=key, project=project or environ.get("MODELRY_PROJECT") or None)


def read_service_url(home: Home) -> str | None:
    """The address the home's running service wrote down, if there is one."""
    try:
        return str(json.loads(home.service.read_text())["url"]).rstrip("/")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_loopback(url: str) -> bool:
    """Whether the address is this machine itself."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidSetting(
            name="MODELRY_URL",
            value=url,
            reason="it must look like http://host:port",
            remedy="Give the whole address, such as http://127.0.0.1:8642.",
        )
    return url.rstrip("/")


def _read_admin_key(home: Home) -> str | None:
    try:
        return home.admin_key.read_text().strip() or None
    except OSError:
        return None
