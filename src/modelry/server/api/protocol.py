"""HTTP as it comes off the socket: uvicorn's protocol with a bound on heads, and our one shape for what is no HTTP.

Leans on uvicorn's internals; `constraints.txt` pins the version, and the tests walk both refusals.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from modelry.core.errors import InvalidRequest
from modelry.core.ids import new_id
from modelry.server.api.errors import error_response

#: Bytes of a request's line and headers (or trailers) at most, give or take one read from the socket.
MAX_HEAD_BYTES = 64 << 10


class BoundedHttp(HttpToolsProtocol):
    """Nobody fills the memory with headers that never end: they come before any key is checked."""

    #: Bytes that came since the last that belonged to a body or ended something.
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(f"its head is larger than {MAX_HEAD_BYTES} bytes")

    def on_headers_complete(self) -> None:
        """The head was whole."""
        self._head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole; another may follow."""
        self._head_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for bytes that are no HTTP."""
        self._refuse("it is not HTTP/1.1")

    def _refuse(self, reason: str) -> None:
        answer = error_response(InvalidRequest(reason=reason))
        answer.headers["x-request-id"] = new_id("req")
        answer.headers["connection"] = "close"
        lines = [b"%b: %b\r\n" % header for header in answer.raw_headers]
        self.transport.write(
            b"".join([STATUS_LINE[answer.status_code], *lines, b"\r\n", answer.body])
        )
        self.transport.close()
