"""Amounts as people write them: `2GB`, `512MiB`, `90`, `10m`, `1h30m`; and as they like to read them."""

from __future__ import annotations

import re

import typer

_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "k": 2**10,
    "m": 2**20,
    "g": 2**30,
    "t": 2**40,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*")


def parse_bytes(text: str) -> int:
    """`2GB` is 2 000 000 000, `2GiB` and `2G` are 2 147 483 648."""
    match = _PART.fullmatch(text.strip().lower())
    if match is None or match[2] not in _BYTES:
        raise typer.BadParameter(f"'{text}' is no amount of memory; write 500MB or 2GiB.")
    return int(float(match[1]) * _BYTES[match[2]])


def parse_seconds(text: str) -> float:
    """`90`, `90s`, `10m`, `1h30m`, `2d`."""
    rest, total = text.strip().lower(), 0.0
    while rest or not text.strip():
        match = _PART.match(rest)
        if match is None or match[2] not in _SECONDS:
            raise typer.BadParameter(f"'{text}' is no length of time; write 90s, 10m or 1h30m.")
        total += float(match[1]) * _SECONDS[match[2]]
        rest = rest[match.end() :]
    return total


def parse_settings(pairs: list[str]) -> dict[str, str]:
    """`--set name=value`, given any number of times."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"'{pair}' is not name=value; write --set epochs=5.")
        found[name.strip()] = value.strip()
    return found


def show_bytes(size: float) -> str:
    """`1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
