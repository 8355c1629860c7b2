"""How a deployment is served, in words: the options that several commands take, and what they tell of it."""

from __future__ import annotations

from typing import Annotated

import typer

from modelry.cli.quantities import parse_seconds
from modelry.cli.screen import say
from modelry.core.records import Deployment

NameArgument = Annotated[str, typer.Argument(help="The deployment's name.")]
ReplicasOption = Annotated[
    int | None, typer.Option(help="Processes that answer: a fixed number; 0 stops it.")
]
MinOption = Annotated[int | None, typer.Option("--min", help="The fewest processes that answer.")]
MaxOption = Annotated[
    int | None, typer.Option("--max", help="The most; the time that requests wait decides.")
]
IdleOption = Annotated[
    str | None,
    typer.Option(
        help="Sleep after so long without a request, as 90s or 10m; 0.1s or more; 0: never."
    ),
]
MaxBatchOption = Annotated[int | None, typer.Option(help="Rows per runtime call at most.")]
ThreadsOption = Annotated[int | None, typer.Option(help="Compute threads of each replica.")]
MaxInFlightOption = Annotated[
    int | None, typer.Option(help="Requests worked on at once, at most; 0: any number.")
]
MaxQueueOption = Annotated[
    int | None, typer.Option(help="Requests that may wait beside those; 0: any number.")
]
DeadlineOption = Annotated[
    str | None, typer.Option(help="How long a request may take that does not say; 0: as usual.")
]
WaitOption = Annotated[bool, typer.Option(help="Wait until it is done.")]


def seconds(text: str | None) -> float | None:
    """What `parse_seconds` makes of an option that may be missing."""
    return None if text is None else parse_seconds(text)


def say_state(record: Deployment) -> None:
    """How it stands after a change."""
    say(f"{record.name} is {record.state.value}: {describe_version(record)}.")


def describe_version(item: Deployment) -> str:
    """What answers, and what is tried beside it."""
    wished = f"{item.model}:{item.version}"
    if item.canary is None:
        return wished
    return f"{wished}, {item.canary.percent:g} % to :{item.canary.version}"


def describe_bounds(item: Deployment) -> str:
    """How many replicas it may have, and whether it sleeps."""
    if item.min_replicas == item.max_replicas:
        number = f"{item.min_replicas} replica{'s' if item.min_replicas > 1 else ''}"
    else:
        number = f"{item.min_replicas} to {item.max_replicas} replicas"
    asleep = "never sleeps" if item.idle_s is None else f"sleeps after {item.idle_s:g} s"
    return f"{number} and {asleep}"
