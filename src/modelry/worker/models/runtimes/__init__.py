"""Runtimes: what loads one form of a model package and runs batches of rows through it."""

from modelry.worker.models.runtimes.base import Load, Runtime, load_runtime

__all__ = ["Load", "Runtime", "load_runtime"]
