"""The report of a model version: how good it is and how it was made, as one page or as JSON."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelry.cli.measures import MEASURES
from modelry.cli.screen import moment
from modelry.core.errors import ModelryError

if TYPE_CHECKING:
    from modelry.client import Client
    from modelry.core.records import MetricPoint, ModelVersion

#: Classes up to which the whole confusion matrix is drawn.
_DRAWN_CLASSES = 40
#: Pairs that are listed of a larger one.
_PAIRS = 20
_SIDE_PX = 72

Curves = dict[str, list[list[float]]]


@dataclass(frozen=True)
class Report:
    """What is known of a version."""

    version: ModelVersion
    #: `epoch/train_loss`, … → points (step, value); empty where the job is gone.
    curves: Curves
    #: Seconds that the training took, if its job is known.
    training_s: float | None
    #: Row of the test split → its picture as a PNG; only those that went wrong.
    pictures: Mapping[int, bytes] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Everything but pictures, for programs."""
        manifest = self.version.manifest
        return {
            "model": self.version.model,
            "version": self.version.version,
            "task": manifest["task"],
            "labels": manifest["labels"],
            "recipe": manifest.get("recipe"),
            "metrics": manifest["metrics"],
            "measurements": manifest.get("measurements", []),
            "lineage": manifest.get("lineage", {}),
            "source": manifest.get("source", {}),
            "training_s": self.training_s,
            "curves": self.curves,
            "created_at": self.version.created_at,
        }


def gather(client: Client, ref: str, *, with_rows: bool) -> Report:
    """Asks for all of it; what is gone meanwhile (the job, the data) is left out."""
    version = client.models.version(ref)
    curves: Curves = {}
    training_s: float | None = None
    if version.job_id is not None:
        with suppress(ModelryError):
            job = client.jobs.get(version.job_id)
            training_s = job.record.notes.get("training_s")
            curves = _curves(job.metrics())
    worst = version.manifest["metrics"].get("worst", [])
    pictures: dict[int, bytes] = {}
    if with_rows and worst:
        with suppress(ModelryError, OSError, KeyError, ValueError):
            pictures = _pictures(client, version, [error["row"] for error in worst])
    return Report(version, curves, training_s, pictures)


def write_page(to: Path, report: Report) -> None:
    """One HTML file, whole or not at all."""
    text = "\n".join(_page(report))
    scratch = to.with_name(f".{to.name}.new")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(to)


def _curves(points: Iterable[MetricPoint]) -> Curves:
    found: Curves = {}
    for point in sorted(points, key=lambda item: (item.name, item.step)):
        found.setdefault(point.name, []).append([point.step, point.value])
    return found


def _pictures(client: Client, version: ModelVersion, rows: Sequence[int]) -> dict[int, bytes]:
    """The rows as pictures, where the data are pictures."""
    from modelry.cli.held_out import read_pictures

    data = version.manifest["lineage"]["data"]
    found = client.data.version(f"{data['name']}:{data['version']}")
    pictures: dict[int, bytes] = {}
    for row, picture in read_pictures(client, found, "test", rows).items():
        buffer = io.BytesIO()
        picture.thumbnail((4 * _SIDE_PX, 4 * _SIDE_PX))
        picture.save(buffer, "PNG")
        pictures[row] = buffer.getvalue()
    return pictures


# The page


def _page(report: Report) -> Iterator[str]:
    version = report.version
    metrics = version.manifest["metrics"]
    name = escape(f"{version.model}:{version.version}")
    yield "<!doctype html>"
    yield f'<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{_style()}</style></head><body><main>"
    yield f"<header><h1>{name}</h1><p>{escape(_subtitle(report))}</p></header>"
    yield from _figures(metrics, report.training_s)
    if report.curves:
        yield from _section("How it learned", _drawn_curves(report.curves))
    if metrics.get("confusion"):
        yield from _section("What it takes for what", _confusion(metrics))
        yield from _section("Class by class", _classes(metrics["classes"]))
    if metrics.get("calibration"):
        yield from _section(
            "How sure it is, and how often it is right then", _calibration(metrics["calibration"])
        )
    if metrics.get("worst"):
        if "probability" in metrics["worst"][0]:
            yield from _section(
                "The errors it was surest of", _errors(metrics["worst"], report.pictures)
            )
        else:
            yield from _section("Its largest errors", _distances(metrics["worst"]))
    yield from _section("How it was made", _making(report))
    yield "</main></body></html>"


def _style() -> str:
    return (resources.files("modelry.cli") / "report.css").read_text("utf-8")


def _subtitle(report: Report) -> str:
    manifest = report.version.manifest
    recipe = (manifest.get("recipe") or {}).get("name")
    data = manifest.get("lineage", {}).get("data") or {}
    parts = [manifest["task"]]
    if recipe:
        parts.append(f"recipe {recipe}")
    if data:
        parts.append(f"learned from {data['name']}:{data['version']}")
    parts.append(moment(report.version.created_at))
    return " · ".join(parts)


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"<section><h2>{escape(title)}</h2>"
    yield from lines
    yield "</section>"


def _figures(metrics: dict[str, Any], training_s: float | None) -> Iterator[str]:
    shown = [
        *((name, metrics.get(key), form) for key, name, form in MEASURES),
        ("calibration error", (metrics.get("calibration") or {}).get("error"), "{:.2%}"),
        ("training", training_s, "{:,.0f} s"),
    ]
    yield '<div class="figures">'
    for label, value, form in shown:
        if value is not None:
            yield f"<div><b>{form.format(value)}</b><span>{label}</span></div>"
    yield "</div>"


def _drawn_curves(curves: Curves) -> Iterator[str]:
    from modelry.cli.pictures import curves_svg

    yield f'<div class="plot">{curves_svg(curves)}</div>'


def _confusion(metrics: dict[str, Any]) -> Iterator[str]:
    labels = [entry["label"] for entry in metrics["classes"]]
    counts = metrics["confusion"]
    if len(labels) > _DRAWN_CLASSES:
        yield f"<p>{len(labels)} classes; the {_PAIRS} pairs that are mixed up most often.</p>"
        pairs = sorted(
            (
                (count, labels[truth], labels[said])
                for truth, row in enumerate(counts)
                for said, count in enumerate(row)
                if truth != said and count
            ),
            reverse=True,
        )
        yield from _table(
            ["is", "said", "rows"], [[truth, said, count] for count, truth, said in pairs[:_PAIRS]]
        )
        return
    yield "<p>Each line is a class; its rows went to the columns' classes.</p>"
    yield '<div class="wide"><table class="matrix"><thead><tr><th></th>'
    yield "".join(f"<th>{escape(label)}</th>" for label in labels) + "</tr></thead><tbody>"
    for truth, row in enumerate(counts):
        whole = max(sum(row), 1)
        cells = "".join(
            _cell(count, count / whole, is_right=truth == said) for said, count in enumerate(row)
        )
        yield f"<tr><th>{escape(labels[truth])}</th>{cells}</tr>"
    yield "</tbody></table></div>"


def _cell(count: int, share: float, *, is_right: bool) -> str:
    if not count:
        return "<td></td>"
    colour = "var(--right)" if is_right else "var(--wrong)"
    # A single wrong row is to be seen, too.
    strength = round(100 * (share if is_right else 0.15 + 0.85 * share))
    fill = f"background:color-mix(in srgb,{colour} {strength}%,transparent)"
    bright = ' class="bright"' if strength > 55 else ""
    return f'<td{bright} style="{fill}">{count:,}</td>'


def _classes(entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield from _table(
        ["class", "rows", "precision", "recall", "F1"],
        [
            [
                entry["label"],
                f"{entry['support']:,}",
                *(f"{entry[name]:.2%}" for name in ("precision", "recall", "f1")),
            ]
            for entry in entries
        ],
    )


def _calibration(calibration: dict[str, Any]) -> Iterator[str]:
    yield (
        "<p>Rows are sorted by the probability of the answer. Where the bar ends at the mark, the probability can be "
        f"taken at its word; on average they are {calibration['error']:.2%} apart.</p>"
    )
    yield '<table class="bars"><thead><tr><th>said</th><th>was right</th><th>rows</th></tr></thead><tbody>'
    for part in calibration["bins"]:
        said, right = part["probability"], part["accuracy"]
        yield (
            f"<tr><td>{said:.1%}</td><td><div class='bar'><i style='width:{right:.2%}'></i>"
            f"<u style='left:{said:.2%}'></u></div>{right:.1%}</td><td>{part['rows']:,}</td></tr>"
        )
    yield "</tbody></table>"


def _errors(worst: Sequence[dict[str, Any]], pictures: Mapping[int, bytes]) -> Iterator[str]:
    if not any(error["row"] in pictures for error in worst):
        yield from _table(
            ["row of the test split", "said", "with", "is"],
            [
                [error["row"], error["said"], f"{error['probability']:.2%}", error["truth"]]
                for error in worst
            ],
        )
        return
    yield '<div class="errors">'
    for error in worst:
        picture = pictures.get(error["row"])
        image = ""
        if picture is not None:
            data = base64.b64encode(picture).decode()
            image = f'<img alt="row {error["row"]}" src="data:image/png;base64,{data}">'
        yield (
            f"<figure>{image}<figcaption><b>{escape(error['said'])}</b> {error['probability']:.1%}<br>"
            f"is {escape(error['truth'])} <small>row {error['row']}</small></figcaption></figure>"
        )
    yield "</div>"


def _distances(worst: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield from _table(
        ["row of the test split", "said", "is", "error"],
        [
            [error["row"], *(_numbers(error[key]) for key in ("said", "truth", "error"))]
            for error in worst
        ],
    )


def _numbers(value: float | Sequence[float]) -> str:
    """One number, or those of several steps ahead."""
    return ", ".join(f"{one:.6g}" for one in (value if isinstance(value, list) else [value]))


def _making(report: Report) -> Iterator[str]:
    manifest = report.version.manifest
    lineage = manifest.get("lineage", {})
    recipe = manifest.get("recipe") or {}
    facts: list[tuple[str, Any]] = [("recipe", recipe.get("name"))]
    facts += sorted((recipe.get("params") or {}).items())
    data = lineage.get("data") or {}
    if data:
        facts += [
            ("data", f"{data['name']}:{data['version']}"),
            ("data's fingerprint", data["fingerprint"]),
        ]
    if start := lineage.get("start"):
        frozen = ", all but the last layer frozen" if start["freeze"] else ""
        facts.append(("started from", f"{start['name']}:{start['version']}{frozen}"))
    facts += [(name, lineage.get(name)) for name in ("job", "attempt", "threads")]
    facts += sorted((lineage.get("environment") or {}).items())
    facts += [(name, value) for name, value in (manifest.get("source") or {}).items()]
    yield from _table(
        ["", ""], [[name, _told(value)] for name, value in facts if value is not None]
    )
    if measured := manifest.get("measurements"):
        yield "<h3>Ways to run it, tried on the machine that made it</h3>"
        yield from _table(
            ["runtime", "threads", "rows/s", "one row", "differs by", ""],
            [
                [
                    " ".join([way["runtime"], *(str(value) for value in way["options"].values())]),
                    way["threads"],
                    f"{way['rows_per_s']:,.0f}",
                    f"{way['single_ms']:.3f} ms",
                    f"{way['max_difference']:.1e}",
                    "serves" if way["is_kept"] else "" if way["is_faithful"] else "too far off",
                ]
                for way in measured
            ],
        )


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(one)}" for name, one in value.items())
    return str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    yield '<div class="wide"><table>'
    if any(head):
        yield "<thead><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr></thead>"
    yield "<tbody>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>"
    yield "</tbody></table></div>"
