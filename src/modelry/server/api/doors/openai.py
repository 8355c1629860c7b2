"""OpenAI's embeddings call: texts in, one vector for each out. Pure translation.

The official client asks for base64 where its user says nothing; a call that says nothing at all gets numbers.
"""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import Any, Literal

import msgspec
import numpy as np

from modelry.core.calls import TaskAnswer, TaskCall, pack, unpack
from modelry.core.errors import InvalidInput, InvalidRequest, ModelryError, UnsupportedTask
from modelry.core.frames import Op
from modelry.core.manifests import ModelManifest, TextInput
from modelry.core.tensors import Array
from modelry.server.api.doors.door import Answer, Call, Find, Head, Refusal, Target
from modelry.server.api.doors.names import read_reference
from modelry.server.api.doors.numbers import write_json, write_numbers
from modelry.server.api.errors import status_of
from modelry.server.gateway import Reply

_PATH = "/v1/embeddings"
_TASKS = ("feature-extraction", "sentence-similarity")
_KINDS = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str
    input: Any
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


class EmbeddingsDoor:
    """`POST /v1/embeddings`; the body names the deployment, as `name`, `name:3` or `name@alias`."""

    paths = (_PATH,)
    compresses = False

    def match(self, path: str) -> Target | None:
        return Target("") if path == _PATH else None

    def decode(self, head: Head, body: bytes, find: Find) -> Call:
        if head.query:
            raise InvalidRequest(reason="this call takes no query parameters")
        request = _read(body)
        target = read_reference(request.model)
        manifest = find(target.name, target.version)
        _check_task(target.name, manifest)
        texts = _read_texts(request.input)
        # A text that is too long is refused, as OpenAI does, and not cut without a word.
        parameters: dict[str, Any] = {"truncate": False}
        if request.dimensions is not None:
            parameters["dimensions"] = request.dimensions
        payload = pack(TaskCall(inputs=texts, parameters=parameters))

        def encode(reply: Reply) -> Answer:
            return Answer(_write(reply, request, len(texts)))

        return Call(target.name, target.version, payload, len(texts), encode, Op.TASK)

    def encode_error(self, error: ModelryError) -> Refusal:
        return refusal(error)


def refusal(error: ModelryError) -> Refusal:
    """OpenAI's shape of an error; its client is told whether trying again can help."""
    status = status_of(error)
    server = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    kind = _KINDS.get(HTTPStatus(status), "server_error" if server else "invalid_request_error")
    name = error.facts.get("name")
    said = {
        "message": str(error),
        "type": kind,
        "param": name if isinstance(name, str) and error.code.endswith("_parameter") else None,
        "code": error.code,
    }
    body = write_json({"error": said}, is_finite=True)
    retry = "true" if error.retryable else "false"
    return Refusal(body, headers=(("x-modelry-error", error.code), ("x-should-retry", retry)))


def _read(body: bytes) -> _Request:
    try:
        return msgspec.json.decode(body, type=_Request)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        reason = str(error).replace("`", "'").rstrip(".")
        raise InvalidRequest(
            reason=reason, remedy="It takes model, input, encoding_format (float or base64)."
        ) from None


def _check_task(name: str, manifest: ModelManifest) -> None:
    if manifest.task not in _TASKS or not isinstance(manifest.media, TextInput):
        raise UnsupportedTask(name=name, task=manifest.task, expected="embeddings of texts")


def _read_texts(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        raise InvalidRequest(reason="'input' must be a text or a list of at least one text")
    if all(isinstance(text, str) for text in texts):
        return texts
    if all(type(text) in (int, list) for text in texts):
        raise InvalidRequest(
            reason="'input' holds tokens: those of another model's tokenizer mean nothing here",
            remedy="Send texts (LangChain: check_embedding_ctx_length=False).",
        )
    raise InvalidRequest(reason="'input' holds something that is no text")


def _write(reply: Reply, request: _Request, count: int) -> bytes:
    answer = unpack(reply.payload, TaskAnswer)
    if len(answer.shape) != 2 or answer.shape[0] != count:
        raise InvalidInput(
            reason="the model gives no single vector for a text",
            expected="calls of its own task at /hf/models/ and the name",
        )
    vectors = np.frombuffer(answer.array, "<f4").reshape(answer.shape)
    is_packed = request.encoding_format == "base64"
    entries = [
        {"object": "embedding", "index": index, "embedding": _embedding(row, is_packed)}
        for index, row in enumerate(vectors)
    ]
    usage = {"prompt_tokens": answer.tokens, "total_tokens": answer.tokens}
    content = {"object": "list", "data": entries, "model": request.model, "usage": usage}
    return write_numbers(content)


def _embedding(row: Array, is_packed: bool) -> str | list[float]:
    return base64.b64encode(row.tobytes()).decode() if is_packed else row.tolist()
