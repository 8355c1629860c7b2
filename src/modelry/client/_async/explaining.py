"""Explanations: one input goes out, what each of its parts gave to the score comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelry.client import wire
from modelry.client._async.http import AsyncHttp
from modelry.client.explanations import Explanation, read_explanation, to_query
from modelry.client.predictions import Media, to_input, to_json
from modelry.client.refs import segment

#: The client waits so much longer than the deadline it asks for, so that the service's own error arrives.
_MARGIN_S = 5.0


async def explain_one(
    http: AsyncHttp,
    deployment: str,
    x: Any,
    *,
    method: str | None,
    label: str | None,
    version: int | None,
    timeout_s: float | None,
    settings: Mapping[str, Any],
) -> Explanation:
    """The explanation of one answer."""
    source = to_input(x)
    if isinstance(source, Media):
        content, content_type = source.content, source.content_type
    else:
        content, content_type = wire.encode({"input": to_json(source)}), "application/json"
    headers = {"content-type": content_type}
    if timeout_s is not None:
        headers["x-request-timeout"] = f"{timeout_s:g}"
    answer = await http.request(
        "POST",
        f"/explain/{segment(deployment)}",
        query={"method": method, "label": label, "version": version, **to_query(settings)},
        content=content,
        headers=headers,
        timeout_s=None if timeout_s is None else timeout_s + _MARGIN_S,
        is_repeatable=True,
    )
    return read_explanation(wire.decode(answer), source)
