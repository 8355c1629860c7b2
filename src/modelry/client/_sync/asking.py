# Generated from ../_async/asking.py by scripts/unasync.py; edit that file.
"""Predictions: inputs of every kind go out, labels with scores come back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from modelry.client import wire
from modelry.client._sync.http import Http
from modelry.client.predictions import (
    Media,
    Prediction,
    in_requests,
    read_predictions,
    to_input,
    to_json,
)
from modelry.client.refs import segment

#: The client waits so much longer than the deadline it asks for, so that the service's own error arrives.
_MARGIN_S = 5.0


def predict_one(
    http: Http,
    deployment: str,
    x: Any,
    *,
    top_k: int | None,
    version: int | None,
    timeout_s: float | None,
) -> Prediction:
    """One answer to one input."""
    value = to_input(x)
    if isinstance(value, Media):
        content, content_type = value.content, value.content_type
    else:
        content, content_type = wire.encode({"input": to_json(value)}), "application/json"
    query = {"top_k": top_k, "version": version}
    return (_ask(http, deployment, content, content_type, query, timeout_s))[0]


def predict_all(
    http: Http,
    deployment: str,
    xs: Iterable[Any],
    *,
    top_k: int | None,
    version: int | None,
    timeout_s: float | None,
) -> list[Prediction]:
    """One answer per input, in order; the inputs travel many at a time."""
    found: list[Prediction] = []
    query = {"top_k": top_k, "version": version}
    for rows in in_requests(xs):
        content = wire.encode({"inputs": rows})
        found += _ask(http, deployment, content, "application/json", query, timeout_s)
    return found


def _ask(
    http: Http,
    deployment: str,
    content: bytes,
    content_type: str,
    query: dict[str, int | None],
    timeout_s: float | None,
) -> list[Prediction]:
    headers = {"content-type": content_type}
    if timeout_s is not None:
        headers["x-request-timeout"] = f"{timeout_s:g}"
    answer = http.request(
        "POST",
        f"/predict/{segment(deployment)}",
        query=query,
        content=content,
        headers=headers,
        timeout_s=None if timeout_s is None else timeout_s + _MARGIN_S,
        is_repeatable=True,
    )
    return read_predictions(wire.decode(answer))
