"""One request of the op `explain`: rows for the model when it is opened, an answer when their outputs are there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, cast

import msgspec
import numpy as np

from modelry.core.calls import ExplainAnswer, ExplainCall, pack, unpack
from modelry.core.errors import InvalidInput
from modelry.core.explaining import (
    KERNEL_SHAP,
    OCCLUSION,
    KernelShap,
    Method,
    Occlusion,
    Picture,
    Subject,
    Table,
    check_cost,
    choose,
    subject_of,
)
from modelry.core.inputs import describe
from modelry.core.manifests import ModelManifest
from modelry.core.tensors import Array, decode_payload
from modelry.worker.explain import absence, kernel_shap, occlusion
from modelry.worker.explain.kernel_shap import Floats
from modelry.worker.explain.perturbed import Hidden, Perturbed
from modelry.worker.explain.scores import index_of, names_of, probabilities
from modelry.worker.tasks import prepare
from modelry.worker.tasks.opened import Opened

#: (the input's score, the score with everything absent, the others in order) → one number for each pixel or column.
Attribute = Callable[[float, float, Floats], Floats]


class Explainable(Protocol):
    """What an explanation needs to know of a model."""

    @property
    def manifest(self) -> ModelManifest: ...


def open_explain(data: bytes, model: Explainable) -> Opened:
    """The rows to be asked, and what makes the answer (a packed `ExplainAnswer`) of their outputs.

    The first row is the input itself, the second has everything absent. Raises what decoding the input raises,
    `UnsupportedTask`, `InvalidParameter` and `UnknownParameter`.
    """
    call, manifest = unpack(data, ExplainCall), model.manifest
    row = _one_row(call, manifest)
    subject = subject_of(manifest, row.shape)
    method = choose(call.method, call.parameters, subject)
    check_cost(method, subject, row.nbytes)
    if call.label is not None and manifest.labels:
        index_of(call.label, np.zeros(len(manifest.labels)), manifest.labels)
    absent = absence.baseline_of(row, subject, method.baseline)
    hidden, others, attribute = _plan(method, subject)
    fixed = manifest.inputs[0].shape[0] or 1
    rows = Perturbed(
        row, absent, subject, hidden, others=others, rows=-(-(others + 2) // fixed) * fixed
    )
    finish = partial(_finish, call, manifest, subject, method, others + 2, attribute)
    # To the batcher rows are what has a shape and can be cut.
    return Opened(inputs={manifest.inputs[0].name: cast(Array, rows)}, finish=finish)


def _one_row(call: ExplainCall, manifest: ModelManifest) -> Array:
    # A model with a fixed batch takes one row here as well; the others are filled up.
    free = [
        msgspec.structs.replace(spec, shape=[None, *spec.shape[1:]]) for spec in manifest.inputs
    ]
    tensors = prepare(decode_payload(call.payload), msgspec.structs.replace(manifest, inputs=free))
    rows = next(iter(tensors.values()))
    if len(rows) != 1:
        expected = f"{describe(manifest.inputs)}, with N = 1"
        raise InvalidInput(reason=f"it has {len(rows)} rows", expected=expected)
    return np.asarray(rows[0])


def _plan(method: Method, subject: Subject) -> tuple[Hidden, int, Attribute]:
    """What is hidden in the perturbed rows, how many there are, and how their scores become attributions."""
    if isinstance(method, Occlusion):
        assert isinstance(subject, Picture)
        covered = occlusion.windows(subject, method.window, method.stride)
        return (
            lambda index: covered[index],
            len(covered),
            lambda score, _, scores: occlusion.attribute(covered, score, scores),
        )
    present, weights = kernel_shap.coalitions(
        method.features(subject), method.evaluations(subject), method.seed
    )

    # A lone feature has no coalition beside the two ends.
    drawn = present if len(present) else np.ones((1, present.shape[1]), np.bool_)

    def shares(score: float, base: float, scores: Floats) -> Floats:
        return kernel_shap.shapley_values(present, weights, scores, base=base, full=score)

    if isinstance(subject, Table):
        return lambda index: ~drawn[index], len(present), shares
    places = absence.patches(subject, method.patch)
    sizes = np.bincount(places.ravel())

    def spread(score: float, base: float, scores: Floats) -> Floats:
        # Evenly over a patch's pixels, so that the pixels sum to the same.
        return np.asarray((shares(score, base, scores) / sizes)[places])

    return lambda index: ~drawn[index][:, places], len(present), spread


def _finish(
    call: ExplainCall,
    manifest: ModelManifest,
    subject: Subject,
    method: Method,
    rows: int,
    attribute: Attribute,
    outputs: dict[str, Array],
) -> bytes:
    table = probabilities(outputs[manifest.outputs[0].name][:rows], manifest)
    index = index_of(call.label, table[0], manifest.labels)
    score, base = float(table[0, index]), float(table[1, index])
    attributions = attribute(score, base, table[2:, index]).astype("<f4")
    return pack(
        ExplainAnswer(
            method=OCCLUSION if isinstance(method, Occlusion) else KERNEL_SHAP,
            label=names_of(table.shape[1], manifest.labels)[index],
            score=score,
            base=base,
            attributions=attributions.tobytes(),
            shape=list(attributions.shape),
            columns=list(subject.columns) if isinstance(subject, Table) else [],
            residual=abs(float(attributions.sum(dtype=np.float64)) - (score - base)),
            evaluations=rows,
            parameters=_used(method, subject),
        )
    )


def _used(method: Method, subject: Subject) -> dict[str, Any]:
    """The settings under the names they are given by."""
    used = dataclasses.asdict(method)
    if isinstance(method, KernelShap):
        used["evaluations"] = used.pop("limit")
        if isinstance(subject, Table):
            del used["patch"]
    return used
