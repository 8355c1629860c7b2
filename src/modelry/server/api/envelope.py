"""What every answer gets: the header `x-request-id`, and an answer even where our own code broke."""

from __future__ import annotations

import itertools
import logging
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelry.core.errors import InternalError
from modelry.core.ids import new_id
from modelry.server.api.errors import error_response

log = logging.getLogger(__name__)

_SENT_ID = re.compile(r"[\w.\-]{1,64}", re.ASCII)
#: Random for each process; with a number behind it, it names a request. A draw for each would cost 8 µs.
_PROCESS_ID = new_id("req")
_numbers = itertools.count(1)


class Envelope:
    """The outermost layer. `is_ending` asks clients to leave: every answer then closes its connection."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(Headers(scope=scope).get("x-request-id"))
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                if getattr(scope["app"].state, "is_ending", False):
                    headers["connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except Exception as error:
            log.exception("%s %s broke request_id=%s", scope["method"], scope["path"], request_id)
            if started:
                raise
            reason = type(error).__name__
            answer = error_response(InternalError(reason=reason, request_id=request_id))
            await answer(scope, receive, send_marked)


def request_id_of(sent: str | None) -> str:
    """The client's own id, so that its logs and ours meet; a new one where it has none that is fit to log."""
    return sent if sent and _SENT_ID.fullmatch(sent) else new_request_id()


def new_request_id() -> str:
    """Such as `req_k3v9x2m4qz7a8p5w-1f`: a process's own 79 random bits, and its requests counted."""
    return f"{_PROCESS_ID}-{next(_numbers):x}"
