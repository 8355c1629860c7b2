"""`/openapi.json` and `/docs`: the calls of this service, for programs and for people, behind a key like all else.

The page is plain text on purpose: no script from elsewhere runs beside the service, and `curl` reads it as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Request
from fastapi.responses import PlainTextResponse, Response

from modelry.server.api.auth import Call, guarded_router, needs
from modelry.server.api.openapi import document

router = guarded_router()

_METHODS = ("get", "put", "post", "patch", "delete")


@router.get("/openapi.json", include_in_schema=False)
def get_schema(call: Annotated[Call, needs("read")], request: Request) -> Response:
    """The calls as OpenAPI."""
    text = json.dumps(document(request.app), ensure_ascii=False)
    return Response(text, media_type="application/json")


@router.get("/docs", include_in_schema=False)
def get_page(call: Annotated[Call, needs("read")], request: Request) -> Response:
    """The calls as a page of text."""
    return PlainTextResponse("\n".join(_lines(document(request.app))) + "\n")


def _lines(schema: dict[str, Any]) -> Iterator[str]:
    info = schema["info"]
    yield f"{info['title']} {info['version']}: the calls of this service"
    yield "Every call but those of health needs 'Authorization: Bearer mk_…'. The whole schema: /openapi.json"
    parts = schema.get("components", {}).get("schemas", {})
    for path, calls in schema["paths"].items():
        for method in _METHODS:
            if method in calls:
                yield ""
                yield from _describe(path, method, calls[method], parts)


def _describe(path: str, method: str, call: dict[str, Any], parts: dict[str, Any]) -> Iterator[str]:
    yield f"{method.upper()} {path}"
    if call.get("description"):
        yield f"    {call['description']}"
    for parameter in call.get("parameters", ()):
        if parameter["in"] == "query":
            yield f"    ?{parameter['name']}"
    for media, content in call.get("requestBody", {}).get("content", {}).items():
        if media != "application/json":
            yield f"    or a body of {media}"
        for fields in alternatives(content["schema"], parts):
            yield from _fields(fields)


def alternatives(schema: dict[str, Any], parts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The objects that a schema allows, each once."""
    if "$ref" in schema:
        yield from alternatives(parts[schema["$ref"].rpartition("/")[2]], parts)
    elif schema.get("properties"):
        yield schema
    for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from alternatives(one, parts)


def _fields(schema: dict[str, Any]) -> Iterator[str]:
    required = schema.get("required", ())
    for field, facts in schema["properties"].items():
        mark = "" if field in required else " (optional)"
        yield f"    {field}{mark}: {facts.get('description', facts.get('const', ''))}".rstrip(" :")
