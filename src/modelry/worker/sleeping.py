"""The job kind `sleep`: counts steps and does nothing else; it shows that jobs survive."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec

from modelry.core.jobs import SleepParams
from modelry.core.specs import StopReason
from modelry.worker.context import JobContext

_CHECKPOINT = "sleep.json"
#: How long a wish to stop may wait.
_NAP_S = 0.02


def run(context: JobContext) -> dict[str, Any]:
    """Count to `steps`, from the last checkpoint on."""
    params = msgspec.convert(context.spec.params, SleepParams)
    step = _restore(context)
    while step < params.steps:
        _sleep(context, params.step_s)
        if context.stop_requested is not None:
            if context.stop_requested is not StopReason.CANCEL:
                _keep(context, step)
            context.check_stop()
        step += 1
        left_s = (params.steps - step) * params.step_s
        context.progress("sleeping", step=step, total_steps=params.steps, eta_s=left_s)
        context.metric("sleep/steps", step, float(step))
        if step % params.checkpoint_steps == 0:
            _keep(context, step)
    return {"steps": step}


def _restore(context: JobContext) -> int:
    folder = context.restore()
    return 0 if folder is None else int(json.loads((folder / _CHECKPOINT).read_text())["step"])


def _keep(context: JobContext, step: int) -> None:
    context.checkpoint(step, {_CHECKPOINT: json.dumps({"step": step}).encode()})


def _sleep(context: JobContext, duration_s: float) -> None:
    """Sleep in naps, and no longer than until somebody asks the job to stop."""
    wake_at = time.monotonic() + duration_s
    while context.stop_requested is None and (left_s := wake_at - time.monotonic()) > 0:
        time.sleep(min(_NAP_S, left_s))
