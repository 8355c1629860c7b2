"""Prometheus' text format (version 0.0.4): families of samples as bytes. Knows no meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})

Labels = Mapping[str, str | int]


class Exposition:
    """Families in the order they are begun; the samples of one stand together."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def family(
        self, name: str, kind: Literal["counter", "gauge", "histogram"], text: str
    ) -> Family:
        """A metric. A counter's name ends in `_total`, a time's in `_seconds`."""
        lines = self._lines[name] = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        return Family(name, lines)

    def encode(self) -> bytes:
        """The whole page."""
        return "\n".join([line for lines in self._lines.values() for line in lines] + [""]).encode()


class Family:
    """One metric, with a sample for each set of labels."""

    def __init__(self, name: str, lines: list[str]) -> None:
        self._name = name
        self._lines = lines

    def add(self, labels: Labels, value: float) -> None:
        """One sample of a counter or a gauge."""
        self._lines.append(f"{self._name}{_braced(_written(labels))} {_number(value)}")

    def add_histogram(
        self, labels: Labels, bounds: Sequence[float], counts: Sequence[int], total: float
    ) -> None:
        """One histogram: `counts` per bucket, with one more than there are bounds; `total` of what was measured."""
        written = _written(labels)
        before = f"{written}," if written else ""
        so_far = 0
        for bound, count in zip((*bounds, None), counts, strict=True):
            so_far += count
            limit = "+Inf" if bound is None else _number(bound)
            self._lines.append(f'{self._name}_bucket{{{before}le="{limit}"}} {so_far}')
        self._lines.append(f"{self._name}_sum{_braced(written)} {_number(total)}")
        self._lines.append(f"{self._name}_count{_braced(written)} {so_far}")


def _written(labels: Labels) -> str:
    return ",".join(f'{name}="{str(value).translate(_ESCAPES)}"' for name, value in labels.items())


def _braced(written: str) -> str:
    return f"{{{written}}}" if written else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
