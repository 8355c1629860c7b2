# Generated from ../_async/http.py by scripts/unasync.py; edit that file.
"""The connection: requests with the key, retries, errors rebuilt. Knows no nouns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from modelry.client import wire
from modelry.client.address import Address
from modelry.client.timing import sync_sleep
from modelry.core.errors import DeadlineExceeded, NotFound, ServiceUnreachable

#: Pauses before the second, third, … try of a call that may be repeated.
RETRY_PAUSES_S = (0.1, 0.3, 1.0)
#: Calls that may be repeated: twice is the same as once.
_IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})
#: An idle connection is dropped before the service (5 s) drops it under a request.
_KEEPALIVE_S = 3.0

Query = Mapping[str, str | int | float | None]
#: Makes the body's bytes anew for each try.
Stream = Callable[[], Iterator[bytes]]


class Http:
    """Requests to one service. Close it, or use it as a context manager."""

    def __init__(
        self,
        address: Address,
        *,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.address = address
        host = urlsplit(address.url).hostname
        self._client = httpx.Client(
            base_url=address.url,
            headers=_headers(address),
            timeout=httpx.Timeout(timeout_s, connect=10.0),
            limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_S),
            verify=address.url.startswith("https"),
            mounts={f"all://{host}": None} if address.is_loopback and not transport else None,
            transport=transport,
        )

    def close(self) -> None:
        """Drops the connections."""
        self._client.close()

    def __enter__(self) -> Http:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def get(self, path: str, query: Query | None = None) -> Any:
        """The answer's JSON."""
        return wire.decode(self.request("GET", path, query=query))

    def post(self, path: str, body: Any = None) -> Any:
        """Sends JSON, answers JSON. Never repeated by itself."""
        return wire.decode(self.request("POST", path, body=body))

    def put(self, path: str, body: Any = None) -> Any:
        """Sends JSON, answers JSON."""
        return wire.decode(self.request("PUT", path, body=body))

    def patch(self, path: str, body: Any = None) -> Any:
        """Sends JSON, answers JSON."""
        return wire.decode(self.request("PATCH", path, body=body))

    def delete(self, path: str) -> None:
        """Removes something; after a broken connection, 'not found' means that the first try did it."""
        self.request("DELETE", path)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        content: bytes | None = None,
        stream: Stream | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        is_repeatable: bool | None = None,
    ) -> bytes:
        """One call, repeated on a broken connection where that is harmless; raises core errors."""
        given = dict(headers or {})
        if body is not None:
            content = wire.encode(body)
            given.setdefault("content-type", "application/json")
        repeatable = method in _IDEMPOTENT if is_repeatable is None else is_repeatable
        pauses = RETRY_PAUSES_S if repeatable else ()
        for attempt in range(len(pauses) + 1):
            try:
                response = self._client.request(
                    method,
                    path,
                    params=_given(query),
                    content=stream() if stream else content,
                    headers=given,
                    timeout=timeout_s if timeout_s else httpx.USE_CLIENT_DEFAULT,
                )
            except httpx.TimeoutException as error:
                raise _timed_out(self.address, error) from None
            except httpx.TransportError as error:
                if attempt == len(pauses):
                    raise _unreachable(self.address, error) from None
                sync_sleep(pauses[attempt])
                continue
            return _checked(response, was_repeated=attempt > 0)
        raise AssertionError("a call ends with an answer or an error")

    @contextlib.contextmanager
    def download(self, path: str) -> Iterator[Iterator[bytes]]:
        """An answer's body in pieces."""
        try:
            with self._client.stream("GET", path) as response:
                if response.is_error:
                    response.read()
                    _checked(response)
                yield response.iter_bytes()
        except httpx.TimeoutException as error:
            raise _timed_out(self.address, error) from None
        except httpx.TransportError as error:
            raise _unreachable(self.address, error) from None


def _headers(address: Address) -> dict[str, str]:
    from modelry import __version__

    headers = {"user-agent": f"modelry/{__version__}"}
    if address.key:
        headers["authorization"] = f"Bearer {address.key}"
    if address.project:
        headers["x-modelry-project"] = quote(address.project)
    return headers


def _given(query: Query | None) -> dict[str, str | int | float]:
    return {name: value for name, value in (query or {}).items() if value is not None}


def _checked(response: httpx.Response, *, was_repeated: bool = False) -> bytes:
    if not response.is_error:
        return response.content
    request_id = response.headers.get("x-request-id")
    error = wire.to_error(response.status_code, response.content, request_id)
    if was_repeated and response.request.method == "DELETE" and isinstance(error, NotFound):
        return b""
    raise error


def _unreachable(address: Address, error: httpx.TransportError) -> ServiceUnreachable:
    return ServiceUnreachable(url=address.url, reason=str(error) or type(error).__name__)


def _timed_out(
    address: Address, error: httpx.TimeoutException
) -> ServiceUnreachable | DeadlineExceeded:
    if isinstance(error, httpx.ConnectTimeout):
        return _unreachable(address, error)
    return DeadlineExceeded(
        f"The service at {address.url} gave no answer in time.",
        remedy="Try again, or give the client a longer timeout_s.",
    )
