"""Pictures of a training and of answers: readable without colour vision, in every script the fonts have."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelry.cli.measures import SCORES, score_of

if TYPE_CHECKING:
    from modelry.cli.held_out import HeldOut
    from modelry.cli.reports import Report
    from modelry.client import Explanation, Prediction
    from modelry.core.analysis import Analysis, Layer
    from modelry.core.records import MetricPoint

#: From the Okabe-Ito palette, told apart by everybody; shapes and words say the same as the colours.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_CJK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "Microsoft YaHei",
    "SimHei",
    "Droid Sans Fallback",
    "Arial Unicode MS",
)
_GRID = (4, 8)


def draw_curves(
    path: Path | io.StringIO,
    points: Iterable[MetricPoint],
    test_accuracy: float | None,
    *,
    format: str | None = None,
) -> None:
    """Loss and score of each epoch, side by side; the test accuracy as a dashed line."""
    curves = _curves(points)
    figure = _figure(10, 3.8)
    for place, word in enumerate(("loss", score_of(curves))):
        axes = figure.add_subplot(1, 2, place + 1)
        styles = zip((BLUE, ORANGE, GREEN, PURPLE), ("o", "s", "^", "D"), strict=True)
        for (name, curve), (colour, marker) in zip(_of(curves, word), styles, strict=False):
            axes.plot(*curve, color=colour, marker=marker, markersize=3, linewidth=1.5, label=name)
        if word == "accuracy" and test_accuracy is not None:
            label = f"test, at the end: {test_accuracy:.2%}"
            axes.axhline(test_accuracy, color=ORANGE, linestyle="--", linewidth=1.2, label=label)
        said = SCORES.get(word, word)
        axes.set(xlabel="epoch", ylabel=said, title=said.capitalize())
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    figure.savefig(path, dpi=120, format=format)


def draw_comparison(path: Path, reports: Sequence[Report]) -> None:
    """The losses of several versions by epoch: what was held out if something was, else what was trained on."""
    figure = _figure(10, 3.8)
    colours = (BLUE, ORANGE, GREEN, PURPLE)
    markers = ("o", "s", "^", "D", "v", "P")
    for place, word in enumerate(("loss", score_of(reports[0].curves))):
        axes = figure.add_subplot(1, 2, place + 1)
        for number, report in enumerate(reports):
            held_out, trained = (
                report.curves.get(f"epoch/{part}_{word}") for part in ("validation", "train")
            )
            curve = held_out or trained or []
            name = f"{report.version.model}:{report.version.version}"
            axes.plot(
                range(1, len(curve) + 1),
                [value for _, value in curve],
                color=colours[number % len(colours)],
                marker=markers[number % len(markers)],
                markersize=3,
                linewidth=1.5,
                label=drawable(f"{name} {'validation' if held_out else 'train'}"),
            )
        said = SCORES.get(word, word)
        axes.set(xlabel="epoch", ylabel=said, title=said.capitalize())
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def curves_svg(curves: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """The same of name → (step, value), as an SVG element without declarations, to stand in a page."""
    from modelry.core.records import MetricPoint

    points = [
        MetricPoint(name=name, step=int(step), value=value, at=0.0)
        for name, curve in curves.items()
        for step, value in curve
    ]
    buffer = io.StringIO()
    draw_curves(buffer, points, None, format="svg")
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def draw_answers(path: Path, held_out: HeldOut, answers: list[Prediction]) -> None:
    """Held-out pictures with their predicted labels; wrong ones first, framed and marked."""
    rows, columns = _GRID
    pairs = list(zip(answers, held_out.labels, strict=True))
    is_right = [answer.label == truth for answer, truth in pairs]
    figure = _figure(columns * 1.25, rows * 1.55 + 0.4)
    figure.suptitle(f"{sum(is_right)} of {len(pairs)} right; the wrong ones first", fontsize=11)
    order = sorted(range(len(pairs)), key=is_right.__getitem__)
    for place, index in enumerate(order[: rows * columns]):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.imshow(held_out.images[index].squeeze(), cmap="gray_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        _say_answer(axes, *pairs[index])
    figure.savefig(path, dpi=120)


def _say_answer(axes: Any, answer: Prediction, truth: str) -> None:
    is_right = answer.label == truth
    title = f"{answer.label}  {answer.score:.0%}" if is_right else f"✗ {answer.label} (is {truth})"
    axes.set_title(drawable(title), fontsize=9, color="black" if is_right else ORANGE)
    for spine in axes.spines.values():
        spine.set(color="0.7" if is_right else ORANGE, linewidth=0.8 if is_right else 2.5)


def draw_explanation(path: Path, found: Explanation) -> None:
    """The input beside what speaks for its label and against it; for a table, its weightiest columns as bars."""
    figure = _draw_columns(found) if found.columns else _draw_picture(found)
    words = f"Why {found.label}?   {found.score:.1%}, and {found.base:.1%} with nothing there"
    figure.suptitle(drawable(words), fontsize=13, x=0.02, ha="left")
    figure.savefig(path, dpi=150)


def _draw_picture(found: Explanation) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    shown = found.shown()
    figure = _figure(8.0, 4.3)
    left, right = figure.subplots(1, 2)
    left.imshow(shown, interpolation="nearest" if max(shown.shape) < 100 else "antialiased")
    found.plot(right)
    for axes, title in ((left, "What the model saw"), (right, "What it looked at")):
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=10, color="0.35")
        for spine in axes.spines.values():
            spine.set(color="0.8", linewidth=0.8)
    colours = LinearSegmentedColormap.from_list("sides", [BLUE, "white", ORANGE])
    scale = ScalarMappable(Normalize(-1, 1), colours)
    bar = figure.colorbar(
        scale, ax=right, orientation="horizontal", shrink=0.9, aspect=30, pad=0.03
    )
    bar.set_ticks([-0.95, 0.95], labels=["against it", "for it"], fontsize=9)
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    return figure


def _draw_columns(found: Explanation, most: int = 16) -> Any:
    count = min(len(found.columns), most)
    figure = _figure(7.0, 1.3 + 0.32 * count)
    axes = figure.subplots()
    found.plot(axes, most=most)
    names = [drawable(name) for name in found.columns[:count]]
    axes.set_yticks(range(count), labels=names[::-1], fontsize=9)
    axes.set_xlabel("gave to the score", fontsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.margins(x=0.12)
    for bar, value in zip(axes.patches, found.attributions[:count][::-1], strict=True):
        axes.annotate(
            f"{value:+.3f}",
            (value, bar.get_y() + bar.get_height() / 2),
            xytext=(4 if value >= 0 else -4, 0),
            textcoords="offset points",
            ha="left" if value >= 0 else "right",
            va="center",
            fontsize=8,
            color="0.35",
        )
    if len(found.columns) > count:
        axes.set_title(f"the {count} weightiest of {len(found.columns)}", fontsize=9, color="0.35")
    return figure


def draw_analysis(path: Path, found: Analysis, most: int = 12) -> None:
    """Left: each layer's share of the multiply-adds beside its share of the time. Right: the roofline."""
    layers = [layer for layer in found.layers if layer.macs]
    heavy = sorted(layers, key=lambda layer: layer.macs, reverse=True)[:most]
    shown = [layer for layer in layers if layer in heavy]
    figure = _figure(11.0, 2.6 + 0.3 * max(len(shown), 5))
    figure.suptitle(drawable(f"What {found.name} costs"), fontsize=13, x=0.02, ha="left")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    places = range(len(shown))
    for offset, colour, name, shares in (
        (-0.2, BLUE, "of the multiply-adds", [layer.macs / found.macs for layer in shown]),
        (0.2, ORANGE, "of the time", [layer.time_us / found.time_us for layer in shown]),
    ):
        heights = [place + offset for place in places]
        bars = left.barh(heights, [100 * share for share in shares], 0.38, color=colour, label=name)
        left.bar_label(
            bars, [f"{share:.0%}" for share in shares], padding=3, fontsize=8, color="0.35"
        )
    left.set_yticks(places, labels=[drawable(layer.name) for layer in shown], fontsize=9)
    left.invert_yaxis()
    left.margins(x=0.12)
    left.set_xlabel("share, %")
    left.legend(frameon=False, fontsize=9, loc="lower right")
    _draw_roofline(right, found, shown)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def draw_behaviour(path: Path, found: Analysis) -> None:
    """Loss against rows and against seconds, each layer's gradient, and for recurrent networks the way back in time."""
    told = found.behaviour
    assert told is not None
    figure = _figure(15.0 if told.reach else 11.5, 3.9)
    figure.suptitle(drawable(f"How descent behaves: {found.name}"), fontsize=13, x=0.02, ha="left")
    panels = figure.subplots(1, 4 if told.reach else 3)
    styles = list(zip((BLUE, ORANGE, GREEN, PURPLE), ("-", "--", "-.", ":"), strict=True))
    for axes, place, label in ((panels[0], 0, "epochs"), (panels[1], 1, "seconds")):
        for descent, (colour, line) in zip(told.descents, styles, strict=False):
            scale = told.rows if place == 0 else 1
            axes.plot(
                [point[place] / scale for point in descent.points],
                [point[2] for point in descent.points],
                color=colour,
                linestyle=line,
                label=f"{descent.name} ({descent.batch_rows})",
            )
        axes.set(xlabel=label, ylabel="loss", title=f"Loss against {label}")
    panels[0].legend(frameon=False, fontsize=8)
    for number, layer in enumerate(told.gradients):
        colour, line = styles[number % len(styles)]
        panels[2].plot(
            layer.steps, layer.norms, color=colour, linestyle=line, label=drawable(layer.layer)
        )
    panels[2].set(xlabel="step", yscale="log", title="Length of each layer's gradient")
    panels[2].legend(frameon=False, fontsize=8)
    if told.reach:
        for cell, (colour, line) in zip(told.reach, styles, strict=False):
            shares = [norm / cell.norms[0] for norm in cell.norms]
            panels[3].plot(
                range(len(shares)), shares, color=colour, linestyle=line, label=cell.cell
            )
        panels[3].set(xlabel="steps back", yscale="log", title="What comes back of the gradient")
        panels[3].legend(frameon=False, fontsize=8)
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def _draw_roofline(axes: Any, found: Analysis, layers: Sequence[Layer]) -> None:
    """FLOP per byte against FLOP/s on logarithmic axes; the roof is what the machine reached."""
    rows, rates = found.timed_rows, found.rates
    points = [
        (layer.intensity(rows), 2 * rows * layer.macs / layer.time_us / 1e3, layer)
        for layer in layers
        if layer.time_us
    ]
    low = min([rates.ridge / 10, *(point[0] / 2 for point in points)])
    high = max([rates.ridge * 10, *(point[0] * 2 for point in points)])
    roof = [
        (x, min(x * rates.bytes_per_s, rates.flops_per_s) / 1e9) for x in (low, rates.ridge, high)
    ]
    axes.plot(*zip(*roof, strict=True), color="0.4", linewidth=1.5)
    axes.annotate(
        f"{rates.flops_per_s / 1e9:.0f} GFLOP/s",
        roof[-1],
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=8,
        ha="right",
    )
    axes.annotate(
        f"{rates.bytes_per_s / 1e9:.1f} GB/s",
        roof[0],
        xytext=(8, 2),
        textcoords="offset points",
        fontsize=8,
    )
    for x, y, layer in points:
        is_compute = layer.bound(rows, rates) == "compute"
        axes.plot(
            x, y, "o" if is_compute else "s", color=BLUE if is_compute else ORANGE, markersize=6
        )
        axes.annotate(
            drawable(layer.name), (x, y), xytext=(6, -3), textcoords="offset points", fontsize=8
        )
    axes.set(xscale="log", yscale="log", xlabel="FLOP per byte", ylabel="GFLOP/s")
    axes.set_title(
        f"○ limited by arithmetic, □ by memory; batches of {rows}, {rates.threads} threads",
        fontsize=9,
        color="0.35",
    )
    axes.grid(alpha=0.25, which="major")


def save_digit(path: Path, held_out: HeldOut, *, label: str) -> None:
    """The first held-out picture of a label as a PNG file of its own size."""
    import numpy as np
    from PIL import Image

    image = held_out.images[held_out.labels.index(label)].squeeze()
    Image.fromarray((image * 255).round().astype(np.uint8)).save(path)


def drawable(text: str) -> str:
    """The text with characters that no installed font has as `U+6570`, never as empty boxes."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    fonts = [get_font(findfont(FontProperties(family=name))) for name in _families()]
    return "".join(
        character
        if character == "\n" or any(font.get_char_index(ord(character)) for font in fonts)
        else f"U+{ord(character):04X}"
        for character in text
    )


def _families() -> list[str]:
    """DejaVu Sans, which matplotlib brings, and one font with Chinese where there is one."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    if not installed.intersection(_CJK_FONTS):
        _add_new_fonts()
        installed = {font.name for font in fontManager.ttflist}
    chinese = [name for name in _CJK_FONTS if name in installed][:1]
    return ["DejaVu Sans", *chinese]


@cache
def _add_new_fonts() -> None:
    """Fonts that were installed after matplotlib wrote its list of them."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {font.fname for font in fontManager.ttflist}
    for file in findSystemFonts():
        if file not in known:
            # One broken font file is no reason to draw nothing.
            with suppress(Exception):
                fontManager.addfont(file)


def _figure(width: float, height: float) -> Any:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matplotlib.rcParams["font.family"] = _families()
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _curves(points: Iterable[MetricPoint]) -> dict[str, tuple[list[int], list[float]]]:
    """The curves of epochs: name → (epochs, values)."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for point in sorted(points, key=lambda item: item.step):
        group, _, name = point.name.partition("/")
        if group == "epoch":
            steps, values = found.setdefault(name, ([], []))
            steps.append(len(steps) + 1)
            values.append(point.value)
    return found


def _of(
    curves: dict[str, tuple[list[int], list[float]]], word: str
) -> list[tuple[str, tuple[list[int], list[float]]]]:
    """The curves of one axis, named without it: `train_loss` is `train`."""
    return [
        (name.removesuffix(f"_{word}"), curve)
        for name, curve in sorted(curves.items())
        if name.endswith(f"_{word}")
    ]
