"""An answer of a deployed model, and inputs on their way to it."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from modelry.core.errors import InvalidInput, NotFound

#: Rows sent in one request by `predict_many`, at most.
ROWS_PER_REQUEST = 128

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"BM", "image/bmp"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says about one input."""

    #: The best class; "" where the model answers otherwise.
    label: str
    #: Its probability, 0…1; NaN without a class.
    score: float
    #: Label → probability, best first.
    scores: dict[str, float]
    #: The version of the model that answered.
    version: int
    #: The answer of a model without classes: one number where it predicts one, else nested lists.
    values: Any = None


@dataclass(frozen=True, slots=True)
class Media:
    """Encoded bytes of one image."""

    content: bytes

    @property
    def content_type(self) -> str:
        """By its first bytes; the service decides what is readable."""
        for magic, name in _MAGIC:
            if self.content.startswith(magic):
                return name
        return "image/unknown"


@dataclass(frozen=True, slots=True)
class Text:
    """A text for a model that reads texts; a plain `str` is the path of a file."""

    text: str


@dataclass(frozen=True, slots=True)
class Tensor:
    """Nested lists of numbers in the range of the model's tensor input, a row with named columns, or a text."""

    values: Any


def to_input(value: Any) -> Media | Tensor:
    """One input: a path, bytes, a PIL image, an array (numpy, torch, …), nested lists, a row as a dict, or `Text`."""
    if isinstance(value, str | PathLike):
        return _read_file(Path(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return Media(bytes(value))
    if hasattr(value, "tolist"):
        return Tensor(value.tolist())
    if type(value).__module__.partition(".")[0] == "PIL":
        return Media(_encode_image(value))
    if isinstance(value, Text):
        return Tensor(value.text)
    if isinstance(value, Mapping):
        return Tensor(dict(value))
    if isinstance(value, list | tuple | int | float) and not isinstance(value, bool):
        return Tensor(value)
    raise InvalidInput(
        reason=f"a {type(value).__name__} is no input",
        expected="a path, bytes, a PIL image, an array, nested lists, a row as a dict, or Text(…)",
    )


def to_json(item: Media | Tensor) -> Any:
    """The input as a value of the native call's JSON."""
    if isinstance(item, Media):
        return {"b64": base64.b64encode(item.content).decode("ascii")}
    return item.values


def in_requests(values: Iterable[Any]) -> Iterator[list[Any]]:
    """The inputs as JSON values, in groups of one request each; media and tensors travel apart."""
    group: list[Any] = []
    kind: Any = None
    for value in values:
        item = to_input(value)
        if group and (len(group) == ROWS_PER_REQUEST or _kind(item) != kind):
            yield group
            group = []
        kind = _kind(item)
        group.append(to_json(item))
    if group:
        yield group


def _kind(item: Media | Tensor) -> Any:
    """What travels together: sequences only with others of their length, which make no ragged tensor."""
    if isinstance(item, Tensor) and isinstance(item.values, list):
        return len(item.values)
    return type(item if isinstance(item, Media) else item.values)


def read_predictions(answer: dict[str, Any]) -> list[Prediction]:
    """The predictions of a native answer, in the order of the inputs."""
    version = int(answer["version"])
    return [_prediction(item, version) for item in answer["predictions"]]


def _prediction(item: dict[str, Any], version: int) -> Prediction:
    if "label" not in item:
        values = item.get("values", item.get("value"))
        if isinstance(values, list) and len(values) == 1:
            values = values[0]
        return Prediction(label="", score=math.nan, scores={}, version=version, values=values)
    scores: Sequence[dict[str, Any]] = item["scores"]
    return Prediction(
        label=item["label"],
        score=item["score"],
        scores={entry["label"]: entry["score"] for entry in scores},
        version=version,
    )


def _read_file(path: Path) -> Media | Tensor:
    try:
        content = path.expanduser().read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise NotFound(noun="file", name=str(path), remedy="Check the path.") from None
    if path.suffix == ".npy":
        return Tensor(_read_array(path, content))
    if path.suffix == ".json":
        return Tensor(_read_json(path, content))
    return Media(content)


def _read_array(path: Path, content: bytes) -> Any:
    import numpy as np

    try:
        return np.load(io.BytesIO(content), allow_pickle=False).tolist()
    except (ValueError, EOFError) as error:
        raise InvalidInput(reason=f"{path}: {error}", expected="an array of numbers") from None


def _read_json(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise InvalidInput(
            reason=f"{path}: {error}", expected="nested numbers, or a row with its columns"
        ) from None


def _encode_image(image: Any) -> bytes:
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
