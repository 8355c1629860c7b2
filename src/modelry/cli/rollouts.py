"""`deployments scale`, `canary`, `promote`, `rollback`, `stop` and `start`: who answers, and how many."""

from __future__ import annotations

from typing import Annotated

import typer

from modelry.cli.connection import connect
from modelry.cli.screen import say
from modelry.cli.serving import (
    IdleOption,
    MaxOption,
    MinOption,
    NameArgument,
    WaitOption,
    describe_bounds,
    describe_version,
    say_state,
    seconds,
)


def register(app: typer.Typer) -> None:
    """Adds the commands to `modelry deployments`."""
    for command in (scale, canary, promote, rollback, stop, start):
        app.command()(command)


def scale(
    name: NameArgument,
    fewest: MinOption = None,
    most: MaxOption = None,
    idle: IdleOption = None,
    wait: WaitOption = True,
) -> None:
    """Let the load decide how many replicas answer, and send them to sleep when nobody asks.

    \b
    Examples:
      modelry deployments scale digits --min 1 --max 4 --idle 10m
      modelry deployments scale digits --idle 0
    """
    if (fewest, most, idle) == (None, None, None):
        raise typer.BadParameter("Give what is to change: --min, --max, --idle.")
    idle_s = seconds(idle)
    with connect() as client:
        handle = client.deployments.get(name)
        record = handle.update(min_replicas=fewest, max_replicas=most, idle_s=idle_s)
        if wait:
            record = handle.wait_ready()
    say(f"{record.name} has {describe_bounds(record)}.")


def canary(
    name: NameArgument,
    model: Annotated[
        str | None, typer.Argument(help="The version to try: NAME, NAME:3 or NAME@ALIAS.")
    ] = None,
    percent: Annotated[
        float | None, typer.Option(help="Its share of the requests that pin no version.")
    ] = None,
    wait: WaitOption = True,
) -> None:
    """Try another version on a share of the requests; `promote` or `rollback` ends the trial.

    \b
    Examples:
      modelry deployments canary digits mnist:2 --percent 10
      modelry deployments canary digits --percent 50
    """
    if model is None and percent is None:
        raise typer.BadParameter("Give the version to try, or --percent, or both.")
    with connect() as client:
        handle = client.deployments.get(name)
        record = handle.canary(model, percent=percent)
        if wait:
            record = handle.wait_canary()
    say(f"{record.name} is {record.state.value}: {describe_version(record)}.")


def promote(name: NameArgument, wait: WaitOption = True) -> None:
    """Make the canary the version that serves; no request fails meanwhile.

    \b
    Example:
      modelry deployments promote digits
    """
    with connect() as client:
        handle = client.deployments.get(name)
        record = handle.promote()
        if wait:
            record = handle.wait_ready()
    say_state(record)


def rollback(name: NameArgument, wait: WaitOption = True) -> None:
    """Take the canary away; without one, go back to the version before. No request fails meanwhile.

    \b
    Example:
      modelry deployments rollback digits
    """
    with connect() as client:
        handle = client.deployments.get(name)
        record = handle.rollback()
        if wait:
            record = handle.wait_ready()
    say_state(record)


def stop(name: NameArgument, wait: WaitOption = True) -> None:
    """End the replicas of a deployment; it keeps its settings, and answers 503 until it is started.

    \b
    Example:
      modelry deployments stop digits
    """
    with connect() as client:
        handle = client.deployments.get(name)
        record = handle.stop()
        if wait:
            record = handle.wait_ready()
    say_state(record)


def start(name: NameArgument, wait: WaitOption = True) -> None:
    """Start a deployment that was stopped, as it was.

    \b
    Example:
      modelry deployments start digits
    """
    with connect() as client:
        handle = client.deployments.get(name)
        record = handle.start()
        if wait:
            record = handle.wait_ready()
    say_state(record)
