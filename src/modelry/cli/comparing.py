"""Versions side by side: how good each is, and what was done differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modelry.cli.measures import MEASURES, show_measure
from modelry.cli.quantities import show_bytes
from modelry.cli.screen import print_table

if TYPE_CHECKING:
    from modelry.cli.reports import Report


def print_comparison(reports: Sequence[Report]) -> None:
    """A column for each version; of parameters and origin only what differs."""
    print_table(["", *(_name(report) for report in reports)], _lines(reports))


def plain_comparison(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """The same for programs, complete."""
    return [report.plain() for report in reports]


def _lines(reports: Sequence[Report]) -> list[list[str]]:
    lines = [
        [name, *(show_measure(report.version.manifest["metrics"], key) for report in reports)]
        for key, name, _ in MEASURES
    ]
    lines.append(
        ["calibration error", *(_formatted(_calibration(report), "{:.2%}") for report in reports)]
    )
    lines.append(["training, s", *(_formatted(report.training_s, "{:,.0f}") for report in reports)])
    lines.append(
        ["rows/s, served", *(_formatted(_rows_per_s(report), "{:,.0f}") for report in reports)]
    )
    lines.append(["size", *(show_bytes(report.version.size_bytes) for report in reports)])
    lines = [line for line in lines if any(line[1:])]
    return lines + [[name, *values] for name, values in _facts(reports) if len(set(values)) > 1]


def _facts(reports: Sequence[Report]) -> list[tuple[str, list[str]]]:
    each = [_facts_of(report) for report in reports]
    names = list(dict.fromkeys(name for facts in each for name in facts))
    return [(name, [facts.get(name, "") for facts in each]) for name in names]


def _facts_of(report: Report) -> dict[str, str]:
    manifest = report.version.manifest
    lineage = manifest.get("lineage") or {}
    recipe = manifest.get("recipe") or {}
    facts = {"recipe": recipe.get("name"), **(recipe.get("params") or {})}
    for role in ("data", "start"):
        found = lineage.get(role)
        if found:
            frozen = ", frozen" if found.get("freeze") else ""
            facts[role] = f"{found['name']}:{found['version']}{frozen}"
    facts |= {"threads": lineage.get("threads"), **(lineage.get("environment") or {})}
    return {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in facts.items()
        if value is not None
    }


def _name(report: Report) -> str:
    return f"{report.version.model}:{report.version.version}"


def _calibration(report: Report) -> Any:
    return (report.version.manifest["metrics"].get("calibration") or {}).get("error")


def _rows_per_s(report: Report) -> Any:
    kept = [way for way in report.version.manifest.get("measurements", []) if way["is_kept"]]
    return kept[0]["rows_per_s"] if kept else None


def _formatted(value: Any, form: str) -> str:
    return "" if value is None else form.format(value)
