"""`jobs`: look at jobs, follow them, stop them."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelry.cli.connection import connect
from modelry.cli.quantities import parse_settings, show_bytes
from modelry.cli.removal import NamesArgument, remove
from modelry.cli.screen import JsonOption, moment, print_facts, print_json, print_table, say
from modelry.core.records import Job, LogLine

if TYPE_CHECKING:
    from modelry.client import JobHandle

app = typer.Typer(help="Jobs: look, follow, cancel, pause, resume.", no_args_is_help=True)
IdArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
#: Seconds between looks of `logs -f`.
_FOLLOW_S = 0.5


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind: train, import-data.")] = None,
    limit: Annotated[int, typer.Option(help="So many at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first.

    \b
    Examples:
      modelry jobs list
      modelry jobs list --state running
    """
    with connect() as client:
        found = client.jobs.list(state=state, kind=kind, limit=limit)
    if as_json:
        print_json(found)
        return
    rows = [
        [job.id, job.kind, job.makes, job.state.value, _doing(job), moment(job.created_at)]
        for job in found
    ]
    print_table(["JOB", "KIND", "MAKES", "STATE", "NOW", "CREATED"], rows, empty="No jobs.")


@app.command()
def show(job: IdArgument, as_json: JsonOption = False) -> None:
    """Show one job with its parameters and, if it failed, the reason.

    \b
    Example:
      modelry jobs show job_k3v9x2m4qz7a8p5w
    """
    with connect() as client:
        record = client.jobs.get(job).record
    if as_json:
        print_json(record)
    else:
        print_facts(_facts(record))


@app.command()
def logs(
    job: IdArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the job's log.

    \b
    Example:
      modelry jobs logs -f job_k3v9x2m4qz7a8p5w
    """
    with connect() as client:
        handle = client.jobs.get(job)
        if not follow:
            lines = handle.logs()
            if as_json:
                print_json(lines)
            else:
                _print_lines(lines)
            return
        _follow(handle)


@app.command()
def watch(job: IdArgument) -> None:
    """Show the progress until the job has ended; ends with status 1 if it failed.

    \b
    Example:
      modelry jobs watch job_k3v9x2m4qz7a8p5w
    """
    with connect() as client:
        record = client.jobs.get(job).watch()
    say(f"{record.id} has {record.state.value}.")


@app.command()
def cancel(job: IdArgument) -> None:
    """End a job now.

    \b
    Example:
      modelry jobs cancel job_k3v9x2m4qz7a8p5w
    """
    with connect() as client:
        client.jobs.get(job).cancel()
    say(f"{job} is asked to end.")


@app.command()
def pause(job: IdArgument) -> None:
    """Let a job write a checkpoint and give its place free.

    \b
    Example:
      modelry jobs pause job_k3v9x2m4qz7a8p5w
    """
    with connect() as client:
        client.jobs.get(job).pause()
    say(f"{job} is asked to pause; `modelry jobs resume {job}` lets it go on.")


@app.command()
def resume(job: IdArgument) -> None:
    """Let a paused job go on from its checkpoint.

    \b
    Example:
      modelry jobs resume job_k3v9x2m4qz7a8p5w
    """
    with connect() as client:
        client.jobs.get(job).resume()
    say(f"{job} goes on as soon as it has a place.")


@app.command()
def again(
    job: IdArgument,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter that is to be another."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the progress until it ends.")
    ] = False,
) -> None:
    """Run a job anew, over the same versions; of a training some parameters may be others.

    \b
    Examples:
      modelry jobs again job_k3v9x2m4qz7a8p5w --watch
      modelry jobs again job_k3v9x2m4qz7a8p5w --set learning_rate=0.01 --set seed=7
    """
    with connect() as client:
        made = client.jobs.get(job).again(**parse_settings(settings or []))
        print(made.id, flush=True)
        if watch:
            made.watch()
        else:
            say(f"See it with: modelry jobs watch {made.id}")


@app.command()
def rm(names: NamesArgument) -> None:
    """Remove jobs that have ended, with their curves and logs; what they made stays.

    \b
    Example:
      modelry jobs rm job_k3v9x2m4qz7a8p5w
    """
    remove("job", names)


def _follow(handle: JobHandle) -> None:
    from modelry.client._sync.jobs import raise_failure

    last = 0
    while True:
        has_ended = handle.refresh().state.is_final
        lines = handle.logs(after=last)
        _print_lines(lines)
        last = lines[-1].number if lines else last
        if has_ended:
            raise_failure(handle.record)
            return
        time.sleep(_FOLLOW_S)


def _print_lines(lines: list[LogLine]) -> None:
    for line in lines:
        level = "" if line.level == "info" else f"{line.level}: "
        print(f"{moment(line.at)}  {level}{line.text}")
    sys.stdout.flush()


def _doing(job: Job) -> str:
    from modelry.client.progress import describe

    text = describe(job)
    return "" if text == job.state.value else text


def _facts(job: Job) -> list[tuple[str, Any]]:
    failure = job.failure or {}
    limit = job.memory_limit_bytes
    return [
        ("job", job.id),
        ("kind", job.kind),
        ("makes", job.makes),
        ("state", job.state.value),
        ("now", _doing(job)),
        ("wish", job.wish.value if not job.state.is_final else None),
        ("attempt", job.attempt),
        ("threads", job.threads),
        ("memory limit", None if limit is None else show_bytes(limit)),
        ("time limit", None if job.time_limit_s is None else f"{job.time_limit_s:g} s"),
        ("checkpoint", None if job.checkpoint_step is None else f"step {job.checkpoint_step}"),
        *((f"  {name}", value) for name, value in _params(job)),
        # A long answer, such as an analysis, has a command of its own that shows it.
        *((name, value) for name, value in job.notes.items() if not isinstance(value, dict)),
        ("created", moment(job.created_at)),
        ("started", moment(job.started_at)),
        ("finished", moment(job.finished_at)),
        ("failure", failure.get("message")),
        ("remedy", failure.get("remedy")),
        ("last words", failure.get("detail")),
    ]


def _params(job: Job) -> list[tuple[str, Any]]:
    """The recipe's parameters beside the kind's own."""
    flat = {name: value for name, value in job.params.items() if name != "params"}
    flat.update(job.params.get("params") or {})
    return list(flat.items())
