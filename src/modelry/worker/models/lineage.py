"""Where a model came from: enough to make it again."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

from modelry.core.specs import JobSpec
from modelry.worker.recipes.building import code_digest

_PACKAGES = ("modelry", "numpy", "onnx", "onnxruntime")


def trace(spec: JobSpec, recipe: str, params: dict[str, Any]) -> dict[str, Any]:
    """Job, recipe and its code, data version, environment, seed and threads."""
    return {
        "job": spec.job_id,
        "attempt": spec.attempt,
        "recipe": {"name": recipe, "params": params, "code_sha256": code_digest(recipe)},
        "data": spec.names.get("data", {}),
        **_start(spec),
        "seed": params["seed"],
        "threads": spec.threads,
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "torch": str(torch.__version__),
            **{name: version(name) for name in _PACKAGES},
        },
    }


def _start(spec: JobSpec) -> dict[str, Any]:
    """The version whose weights were the beginning, if there was one."""
    start = spec.names.get("model")
    if start is None:
        return {}
    return {"start": {**start, "freeze": bool(spec.params.get("freeze"))}}
