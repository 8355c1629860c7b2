"""`python -m modelry.worker.runner`: the process of one job attempt, from its spec to its outcome.

A new capability of the service is one more line in `JOB_KINDS`.
"""

from __future__ import annotations

import errno
import faulthandler
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from modelry.core.errors import InternalError, ModelryError, OutOfMemory, ProgramFailed, StorageFull
from modelry.core.home import Home
from modelry.core.specs import Failure, JobSpec, Outcome, OutcomeStatus, StopReason
from modelry.worker.context import JobContext, Stopped
from modelry.worker.folder import WorkerFolder
from modelry.worker.orphans import PATIENCE_S, OrphanWatch

#: Kind → `module:function`, imported when a job of the kind runs.
JOB_KINDS = {
    "sleep": "modelry.worker.sleeping:run",
    "import-data": "modelry.worker.data.importing:run",
    "import-model": "modelry.worker.models.importing.job:run",
    "train": "modelry.worker.training.job:run",
    "predict-batch": "modelry.worker.predicting.job:run",
    "analyze": "modelry.worker.analysis.job:run",
}
_TRACEBACK_LINES = 20

JobFunction = Callable[[JobContext], dict[str, Any]]


def main(
    folder_path: Path, home_root: Path, lock_fd: int, patience_s: float = PATIENCE_S
) -> Outcome:
    """Run the job in this folder and write its outcome."""
    os.set_inheritable(lock_fd, False)
    folder = WorkerFolder(folder_path)
    spec = folder.read_spec()
    if not isinstance(spec, JobSpec):
        raise InternalError(reason=f"{folder_path} holds no job's spec", request_id="of the log")
    context = JobContext(folder, spec)
    os.chdir(context.work)
    _listen_for_stop(context, folder)
    watch = OrphanWatch(Home(home_root), lock_fd, lambda: _orphaned(context), patience_s)
    watch.start()
    outcome = run_job(context, load_kind)
    folder.write_outcome(outcome)
    return outcome


def load_kind(kind: str) -> JobFunction:
    """The function of a job kind."""
    if kind not in JOB_KINDS:
        raise InternalError(reason=f"no job kind is called '{kind}'", request_id="of the job")
    module, _, function = JOB_KINDS[kind].partition(":")
    found: JobFunction = getattr(importlib.import_module(module), function)
    return found


def run_job(context: JobContext, load: Callable[[str], JobFunction]) -> Outcome:
    """Run the job's function; whatever it does becomes an outcome, and all events are on the disk before it."""
    try:
        result = load(context.spec.kind)(context)
        # What cannot be written must fail here, where it still can become a failure.
        msgspec.json.encode(result)
        outcome = Outcome(status=OutcomeStatus.SUCCEEDED, result=result)
    except Stopped as stopped:
        outcome = Outcome(status=stopped.status)
    except BaseException as error:
        traceback.print_exc()
        outcome = Outcome(status=OutcomeStatus.FAILED, failure=describe(error, context.spec))
    try:
        context.close()
    except OSError as error:
        if outcome.status is OutcomeStatus.SUCCEEDED:
            outcome = Outcome(status=OutcomeStatus.FAILED, failure=describe(error, context.spec))
    return outcome


def describe(error: BaseException, spec: JobSpec) -> Failure:
    """What people and programs are told of an error in a job."""
    known = _as_known(error, spec)
    lines = "".join(traceback.format_exception(error)).splitlines()
    return Failure(
        code=known.code,
        message=known.message,
        remedy=known.remedy,
        detail="\n".join(lines[-_TRACEBACK_LINES:]),
    )


def _as_known(error: BaseException, spec: JobSpec) -> ModelryError:
    if isinstance(error, ModelryError):
        return error
    if isinstance(error, MemoryError):
        return OutOfMemory("The machine had no more memory for the job.")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return StorageFull(place=error.filename or "the job's files")
    return ProgramFailed(
        exception=type(error).__name__,
        reason=str(error).rstrip(".") or "no reason given",
        job=spec.job_id,
    )


def _listen_for_stop(context: JobContext, folder: WorkerFolder) -> None:
    def look(*_: object) -> None:
        # Somebody who signals without a reason ends the process, not the job.
        context.stop_requested = folder.read_stop() or StopReason.SHUTDOWN

    signal.signal(signal.SIGTERM, look)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if folder.read_stop() is not None:
        look()


def _orphaned(context: JobContext) -> None:
    if context.stop_requested is None:
        context.log("No agent lives any more; the job ends and will be taken up again.", "warning")
        context.stop_requested = StopReason.SHUTDOWN


if __name__ == "__main__":
    faulthandler.enable()
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *map(float, sys.argv[4:5]))
    sys.stdout.flush()
    sys.stderr.flush()
    # The last word is written; threads of libraries that still run have nothing to add.
    os._exit(0)
