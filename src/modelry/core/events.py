"""What a running job says: one JSON object a line in `run/<worker id>/events.jsonl`.

The file is append-only and read by byte offset; a line without its newline is not an event yet.
"""

from __future__ import annotations

from typing import Any

import msgspec

from modelry.core.files import FileRef


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """How far the job is. At most twice a second."""

    at: float
    #: What is being done, for people: `reading data`, `training`, `evaluating`, `converting`.
    phase: str
    step: int = 0
    total_steps: int = 0
    epoch: int = 0
    epochs: int = 0
    samples_per_s: float | None = None
    eta_s: float | None = None


class Metric(msgspec.Struct, frozen=True, kw_only=True, tag="metric"):
    """One point of a curve, keyed (job, name, step); a later attempt wins.

    Names are `train/loss`, `train/accuracy` (per step: the mean since the last point), `validation/loss`,
    `epoch/train_loss`, … (per epoch).
    """

    at: float
    name: str
    step: int
    value: float


class Log(msgspec.Struct, frozen=True, kw_only=True, tag="log"):
    """A line for people."""

    at: float
    text: str
    #: `info`, `warning` or `error`.
    level: str = "info"


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, tag="checkpoint"):
    """The job can go on from here: the files are safe in the artifacts."""

    at: float
    step: int
    files: list[FileRef]


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag="opened"):
    """A split was read; the test split appears once, for the final evaluation."""

    at: float
    split: str
    rows: int


class Note(msgspec.Struct, frozen=True, kw_only=True, tag="note"):
    """A fact for the job's record, such as the number of parameters."""

    at: float
    name: str
    value: Any


Event = Progress | Metric | Log | Checkpoint | Opened | Note

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """One line, newline included."""
    return _encoder.encode(event) + b"\n"


def decode_events(chunk: bytes) -> tuple[list[Event], int]:
    """The whole events at the start of `chunk`, and how many bytes they took.

    A line that is no event (a torn write of a killed worker, followed by a later attempt's line) is passed over.
    """
    end = chunk.rfind(b"\n") + 1
    events: list[Event] = []
    for line in chunk[:end].splitlines():
        try:
            events.append(_decoder.decode(line))
        except msgspec.DecodeError:
            continue
    return events, end
