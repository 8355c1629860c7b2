"""`analyze`: what each layer of a model costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelry.cli.connection import connect
from modelry.cli.quantities import parse_settings, show_bytes
from modelry.cli.screen import JsonOption, PictureOption, print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from modelry.core.analysis import Analysis, Behaviour, Layer

#: Batches whose memory is told.
_BATCHES = (1, 32, 256)
#: A layer without multiply-adds and parameters is printed from this share of the time on; `--json` has them all.
_WORTH = 0.02


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(analyze)


def analyze(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|MODEL",
            help="A recipe with --data, or a model: NAME, NAME:VERSION, NAME@ALIAS.",
        ),
    ],
    data: Annotated[
        str | None, typer.Option(help="For a recipe: the data set whose rows it is for.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A recipe's parameter, NAME=VALUE; any number of times."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="A recipe's named group of settings.")] = None,
    behaviour: Annotated[
        bool,
        typer.Option(
            "--behaviour",
            help="For a recipe: train small copies by batch, mini-batch and stochastic descent; --to draws that.",
        ),
    ] = False,
    threads: Annotated[int | None, typer.Option(help="Compute threads.")] = None,
    to: PictureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count and time what each layer costs: multiply-adds, bytes, memory, and what limits it here.

    \b
    Examples:
      modelry analyze digits
      modelry analyze digits:2 --to cost.png
      modelry analyze rnn --data mnist --set cell=gru
      modelry analyze rnn --data mnist --behaviour --to behaviour.png
    """
    from modelry.core.analysis import analysis_in

    with connect() as client:
        job = client.analyze(
            target,
            data=data,
            preset=preset,
            params=parse_settings(settings or []),
            behaviour=behaviour or None,
            threads=threads,
        )
        record = job.wait() if as_json else job.watch()
    analysis = analysis_in(record.notes)
    if to is not None:
        from modelry.cli.pictures import draw_analysis, draw_behaviour

        draw = draw_analysis if analysis.behaviour is None else draw_behaviour
        draw(to, analysis)
    if as_json:
        print_json(_plain(analysis))
        return
    shown = _worth_showing(analysis)
    print_table(
        [
            "LAYER",
            "OPERATOR",
            "OUTPUT",
            "PARAMETERS",
            "MULTIPLY-ADDS",
            "SHARE",
            "FLOP/BYTE",
            "LIMIT",
            "TIME",
        ],
        [_row(layer, analysis) for layer in shown],
    )
    left = len(analysis.layers) - len(shown)
    if left:
        say(f"{left} operators that neither multiply nor learn are left out; --json has them.")
    print_facts(_facts(analysis))
    if analysis.behaviour is not None:
        _print_behaviour(analysis.behaviour)
    if analysis.uncounted:
        say(f"Not counted: {', '.join(analysis.uncounted)}.")
    say(f"Drawn: {to}" if to is not None else "Draw it with --to cost.png")


def _print_behaviour(found: Behaviour) -> None:
    print_table(
        ["DESCENT", "ROWS A STEP", "STEPS", "SECONDS", "LOSS BEFORE", "LOSS AFTER"],
        [
            [
                one.name,
                one.batch_rows,
                one.steps,
                f"{one.points[-1][1]:.2f}",
                f"{one.points[0][2]:.4f}",
                "diverged" if one.has_diverged else f"{one.points[-1][2]:.4f}",
            ]
            for one in found.descents
        ],
    )
    print_table(
        ["LAYER", "GRADIENT AT FIRST", "AT LAST"],
        [[one.layer, f"{one.norms[0]:.2e}", f"{one.norms[-1]:.2e}"] for one in found.gradients],
    )
    if found.reach:
        print_table(
            ["CELL", "GRADIENT AT THE LAST STEP", "AT THE FIRST", "SHARE"],
            [
                [
                    one.cell,
                    f"{one.norms[0]:.2e}",
                    f"{one.norms[-1]:.2e}",
                    f"{one.norms[-1] / one.norms[0]:.1e}",
                ]
                for one in found.reach
            ],
        )
    say(f"{found.rows} rows, learning rate {found.learning_rate:g} for all three, no momentum.")


def _worth_showing(analysis: Analysis) -> Sequence[Layer]:
    least_us = _WORTH * analysis.time_us
    return [
        layer
        for layer in analysis.layers
        if layer.macs or layer.parameters or layer.time_us >= least_us
    ]


def _row(layer: Layer, analysis: Analysis) -> list[Any]:
    rows = analysis.timed_rows
    return [
        layer.name,
        layer.operator,
        "×".join(map(str, layer.output_shape)),
        f"{layer.parameters:,}" if layer.parameters else "",
        f"{layer.macs:,}" if layer.macs else "",
        f"{layer.macs / analysis.macs:.1%}" if layer.macs else "",
        f"{layer.intensity(rows):.1f}" if layer.macs else "",
        layer.bound(rows, analysis.rates),
        f"{layer.time_us / rows:.2f} µs",
    ]


def _facts(analysis: Analysis) -> list[tuple[str, Any]]:
    rates, rows = analysis.rates, analysis.timed_rows
    reached = 2 * rows * analysis.macs / (analysis.time_us * 1e-6) if analysis.time_us else 0.0
    return [
        ("model", analysis.name),
        (
            "a row",
            ", ".join(
                f"{name} {'×'.join(map(str, shape))}" for name, shape in analysis.row_shapes.items()
            ),
        ),
        ("parameters", f"{analysis.parameters:,} ({show_bytes(analysis.weight_bytes)})"),
        ("multiply-adds, answer", f"{analysis.macs:,} a row"),
        ("multiply-adds, training", f"{analysis.macs + analysis.macs_backward:,} a row"),
        *((f"training memory, batch {rows}", _memory(analysis, rows)) for rows in _BATCHES),
        (
            "this machine",
            f"{rates.flops_per_s / 1e9:.0f} GFLOP/s, {rates.bytes_per_s / 1e9:.1f} GB/s with {rates.threads} "
            f"threads: memory is the limit below {rates.ridge:.1f} FLOP/byte",
        ),
        ("reached", f"{reached / 1e9:.1f} GFLOP/s in batches of {rows}, layer by layer"),
    ]


def _memory(analysis: Analysis, rows: int) -> str:
    parts = {
        "weights": analysis.weight_bytes,
        "gradients": analysis.gradient_bytes,
        analysis.optimizer: analysis.optimizer_bytes,
        "activations": analysis.kept_bytes(rows),
    }
    told = ", ".join(f"{name} {show_bytes(size)}" for name, size in parts.items() if size)
    return f"{show_bytes(analysis.training_bytes(rows))} ({told})"


def _plain(analysis: Analysis) -> dict[str, Any]:
    import msgspec

    return {
        **msgspec.to_builtins(analysis),
        "parameters": analysis.parameters,
        "weight_bytes": analysis.weight_bytes,
        "macs": analysis.macs,
        "macs_backward": analysis.macs_backward,
        "gradient_bytes": analysis.gradient_bytes,
        "optimizer_bytes": analysis.optimizer_bytes,
        "training_bytes": {str(rows): analysis.training_bytes(rows) for rows in _BATCHES},
        "ridge": analysis.rates.ridge,
        "bounds": [layer.bound(analysis.timed_rows, analysis.rates) for layer in analysis.layers],
    }
