"""Loads a checked graph and runs it, in a confined process: does it load, what does it take, how does it get rows?

The answers of the published graph, for several rows at once, are compared with the original's for each row alone; a
way to give it rows whose answers differ is not taken. Inputs are random, because an import has no samples.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import ModelProto

from modelry.core.errors import NotConvertible
from modelry.core.manifests import TensorSpec
from modelry.core.tensors import Array
from modelry.core.texts import STRING
from modelry.worker.models.importing.answers import (
    ATOL,
    RTOL,
    distance,
    is_share,
    largest,
    magnitude,
)
from modelry.worker.models.importing.feeding import Feeding, Feeds, Shapes
from modelry.worker.models.importing.graph import check_graph, read_graph
from modelry.worker.models.importing.ports import (
    Port,
    first_line,
    input_ports,
    load_session,
    output_ports,
)
from modelry.worker.models.importing.rows import Rows, call_by_row, free_batch

MODEL = "model.onnx"
SAMPLES = "samples.npz"
#: Rows that are compared, and as many again are kept for the measuring that follows.
ROWS = 3
KEPT_ROWS = 64
#: Bytes of kept samples at most.
_KEPT_BYTES = 64 << 20
#: Rows are kept only as many as are answered together within this time.
_LONGEST_CALL_S = 10.0
#: How long lengths that run are looked for.
_SEARCH_S = 20.0


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be tried."""

    #: The graph's name in the source, for sentences, and its file.
    name: str
    file: str
    #: Where the published graph goes, and where samples may be kept.
    out: str
    scratch: str
    #: How pictures become its input, where it takes some: decides the range of random numbers, and free sides.
    preprocess: dict[str, Any] | str | None = None


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    rows: Rows
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    #: Outputs of types that are not served.
    left_out: list[str]
    #: Input → shape of one row that runs.
    examples: dict[str, list[int]]
    operators: dict[str, int]
    external: list[str]
    opsets: dict[str, int]
    producer: str
    #: What makes each output: its operator, passed through what changes no value.
    ends_with: dict[str, str]
    #: Outputs whose rows were numbers from 0 to 1 that add up to 1.
    are_shares: list[str]
    #: Largest difference of the published graph from the original, what was allowed, and both speeds.
    difference: float
    tolerance: float
    rows_per_s: float
    original_rows_per_s: float


def examine(asked: dict[str, Any]) -> dict[str, Any]:
    """`Question` in, `Tried` out, as plain values; raises `UnsafeFile` and `NotConvertible`."""
    question = msgspec.convert(asked, Question)
    file = Path(question.file)
    model = read_graph(question.name, file)
    facts = check_graph(question.name, model, file.parent)
    trial = _Trial(question, model)
    trial.copy_external(sorted(facts.external))
    found = trial.run()
    tried = msgspec.structs.replace(
        found, operators=dict(facts.operators.most_common()), external=sorted(facts.external)
    )
    return dict(msgspec.to_builtins(tried))


class _Trial:
    """One graph under trial: its original session beside the published one."""

    def __init__(self, question: Question, model: ModelProto) -> None:
        self.question = question
        self.model = model
        self._session = load_session(question.name, Path(question.file))
        self._inputs = input_ports(question.name, self._session)
        self._outputs, self._left_out = output_ports(self._session)
        self._feeding = Feeding(self._inputs, question.preprocess)
        #: Whether the way that was tried last did not run at all, and why it was not taken.
        self._raises_for_rows, self._why = False, ""

    def copy_external(self, names: list[str]) -> None:
        """Lays the files with weights beside the graph that will be published."""
        for name in names:
            target = Path(self.question.out, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(self.question.file).parent / name, target)

    def run(self) -> Tried:
        """How the graph gets its rows, and what is known of it then; raises `NotConvertible`."""
        examples = self._find_shapes()
        singles = [self._feeding.feeds(examples) for _ in range(ROWS)]
        answers = [self._call(self._session, feeds) for feeds in singles]
        self._check_steady(singles[0], answers[0])
        for rows in self._ways(answers[0]):
            published = self._publish(rows)
            difference = self._compare(published, rows, singles, answers)
            if difference is not None:
                return self._describe(published, rows, examples, singles, answers, difference)
        raise NotConvertible(reason=f"'{self.question.name}' cannot be given rows ({self._why})")

    def _find_shapes(self) -> Shapes:
        """One row's (or whole call's) shape of each input, with which it runs; raises `NotConvertible`."""
        deadline, last = time.monotonic() + _SEARCH_S, "no lengths fit"
        for shapes in self._feeding.shapes():
            try:
                self._call(self._session, self._feeding.feeds(shapes))
            except Exception as error:  # ONNX Runtime's errors have no class of their own.
                last = first_line(error)
            else:
                return shapes
            if time.monotonic() > deadline:
                break
        raise NotConvertible(
            reason=f"'{self.question.name}' did not run with random inputs ({last})",
            remedy="Export it with fixed sizes instead of free ones, and check that ONNX Runtime runs it.",
        )

    def _call(self, session: Any, feeds: Feeds) -> list[Array]:
        names = [port.name for port in self._outputs]
        return [np.asarray(value) for value in session.run(names, feeds)]

    def _check_steady(self, feeds: Feeds, answers: list[Array]) -> None:
        again = self._call(self._session, feeds)
        if any(distance(a, b) is None for a, b in zip(again, answers, strict=True)):
            raise NotConvertible(
                reason=f"'{self.question.name}' answers the same input differently each time",
                remedy="Export it for inference (`model.eval()`), without dropout and random numbers.",
            )

    # Rows

    def _ways(self, answers: list[Array]) -> Iterator[Rows]:
        """The ways to give it rows that may fit, the quickest first."""
        first = [port.shape[0] if port.shape else None for port in self._inputs]
        if any(not port.shape for port in self._inputs):
            yield Rows.WHOLE
            return
        out_first = {answer.shape[0] if answer.ndim else None for answer in answers}
        if all(not isinstance(size, int) for size in first):
            yield Rows.OWN
            if self._raises_for_rows and out_first == {1}:
                yield Rows.ONE_BY_ONE
        elif len(set(first)) == 1 and out_first == set(first):
            yield Rows.FREED
            yield Rows.ONE_BY_ONE if first[0] == 1 else Rows.FIXED
        yield Rows.WHOLE

    def _publish(self, rows: Rows) -> Path:
        place = Path(self.question.out, MODEL)
        place.unlink(missing_ok=True)
        names = [port.name for port in self._outputs]
        if rows in (Rows.OWN, Rows.FIXED):
            shutil.copyfile(self.question.file, place)
        else:
            changed = free_batch(self.model) if rows is Rows.FREED else None
            onnx.save(changed or call_by_row(self.model, names, rows), str(place))
        return place

    def _compare(
        self, published: Path, rows: Rows, singles: list[Feeds], answers: list[list[Array]]
    ) -> float | None:
        """Largest difference between rows together and rows alone; None where they are not the same."""
        self._raises_for_rows, self._why = False, "rows together are answered otherwise than alone"
        try:
            self._published = load_session(self.question.name, published)
            if rows is Rows.FIXED:
                return self._compare_turned(singles[0], answers[0])
            together = self._call(self._published, _stack(singles, rows))
            alone = self._call(self._published, _stack(singles[:1], rows))
        except Exception as error:  # A way that does not run is not taken.
            self._raises_for_rows, self._why = True, first_line(error)
            return None
        wanted = [_join([answer[i] for answer in answers], rows) for i in range(len(self._outputs))]
        first = [_join([answers[0][i]], rows) for i in range(len(self._outputs))]
        return largest([*zip(together, wanted, strict=True), *zip(alone, first, strict=True)])

    def _compare_turned(self, feeds: Feeds, answers: list[Array]) -> float | None:
        """For a batch of one size: turning the rows must turn the answers, and change nothing else."""
        turned = self._call(
            self._published, {name: np.roll(value, 1, axis=0) for name, value in feeds.items()}
        )
        return largest([(t, np.roll(a, 1, axis=0)) for t, a in zip(turned, answers, strict=True)])

    # Description

    def _describe(
        self,
        published: Path,
        rows: Rows,
        examples: Shapes,
        singles: list[Feeds],
        answers: list[list[Array]],
        difference: float,
    ) -> Tried:
        drop = 1 if rows.keeps_first else 0
        row_shapes = {name: shape[drop:] for name, shape in examples.items()}
        inputs = [self._published_spec(port, rows, row_shapes[port.name]) for port in self._inputs]
        is_fixed = all(None not in spec.shape[1:] for spec in inputs)
        outputs = [
            self._output_spec(port, rows, [answer[i] for answer in answers], is_fixed)
            for i, port in enumerate(self._outputs)
        ]
        self._keep_samples(rows, examples)
        stacked = singles[0] if rows is Rows.FIXED else _stack(singles, rows)
        count = len(next(iter(stacked.values())))
        return Tried(
            rows=rows,
            inputs=inputs,
            outputs=outputs,
            left_out=self._left_out,
            examples=row_shapes,
            operators={},
            external=[],
            opsets={opset.domain or "ai.onnx": opset.version for opset in self.model.opset_import},
            producer=f"{self.model.producer_name} {self.model.producer_version}".strip()[:100],
            ends_with={port.name: _maker(self.model, port.name) for port in self._outputs},
            are_shares=[
                port.name
                for i, port in enumerate(self._outputs)
                if all(is_share(answer[i]) for answer in answers)
            ],
            difference=difference,
            tolerance=ATOL + RTOL * max(magnitude(value) for answer in answers for value in answer),
            rows_per_s=_speed(lambda: self._call(self._published, stacked), count),
            original_rows_per_s=_speed(
                lambda: self._call(self._session, singles[0]),
                count if rows is Rows.FIXED else 1,
            ),
        )

    def _published_spec(self, port: Port, rows: Rows, example: list[int]) -> TensorSpec:
        own = port.lengths
        shape = [None, *(own[1:] if rows.keeps_first else own)]
        if rows is Rows.FIXED:
            shape[0] = own[0]
        has_free = None in shape[1:]
        return TensorSpec(
            name=port.name, dtype=port.dtype, shape=shape, example=example if has_free else None
        )

    def _output_spec(
        self, port: Port, rows: Rows, answers: list[Array], is_fixed: bool
    ) -> TensorSpec:
        """Lengths as declared; where nothing is and the inputs leave no freedom, as they came out each time."""
        ranks = {answer.ndim for answer in answers}
        drop = 1 if rows.keeps_first else 0
        lengths: list[int | None] = []
        for axis in range(drop, ranks.pop()):
            seen = {answer.shape[axis] for answer in answers}
            declared = port.shape[axis] if len(port.shape) > axis else None
            settled = seen.pop() if is_fixed and len(seen) == 1 else None
            lengths.append(declared if isinstance(declared, int) else settled)
        first = answers[0].shape[0] if rows is Rows.FIXED else None
        return TensorSpec(name=port.name, dtype=port.dtype, shape=[first, *lengths])

    def _keep_samples(self, rows: Rows, examples: Shapes) -> None:
        """Random rows for those who measure the model afterwards; texts are not kept."""
        if any(port.dtype == STRING for port in self._inputs):
            return
        one = self._feeding.feeds(examples)
        if rows is not Rows.FIXED:
            one = self._most_rows(rows, examples)
        kept: dict[str, Any] = {f"i{number}": value for number, value in enumerate(one.values())}
        np.savez(Path(self.question.scratch, SAMPLES), **kept)

    def _most_rows(self, rows: Rows, examples: Shapes) -> Feeds:
        """As many rows as go together without much time or more memory than there is; at least those of the trial."""
        size = sum(value.nbytes for value in self._feeding.feeds(examples).values())
        count = max(ROWS, min(KEPT_ROWS, _KEPT_BYTES // max(1, size)))
        many = _stack([self._feeding.feeds(examples) for _ in range(count)], rows)
        few = {name: value[:ROWS] for name, value in many.items()}
        began = time.perf_counter()
        self._call(self._published, few)
        if (time.perf_counter() - began) * count / ROWS > _LONGEST_CALL_S:
            return few
        try:
            self._call(self._published, many)
        except Exception:  # More rows than fit into memory: those who measure get fewer.
            return few
        return many


def _stack(rows: list[Feeds], way: Rows) -> Feeds:
    join = np.concatenate if way.keeps_first else np.stack
    return {name: join([row[name] for row in rows]) for name in rows[0]}


def _join(answers: list[Array], way: Rows) -> Array:
    return np.concatenate(answers) if way.keeps_first and answers[0].ndim else np.stack(answers)


#: Operators that change no value, or not its order.
_PASSING = (
    "Identity",
    "Cast",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Dropout",
)


def _maker(model: ModelProto, output: str) -> str:
    """The operator whose values reach the output."""
    makers = {name: node for node in model.graph.node for name in node.output}
    for _ in range(64):
        node = makers.get(output)
        if node is None:
            return ""
        if node.op_type not in _PASSING or not node.input:
            return str(node.op_type)
        output = node.input[0]
    return ""


def _speed(call: Any, rows: int) -> float:
    began, calls = time.perf_counter(), 0
    while calls < 3 or (time.perf_counter() - began < 0.1 and calls < 100):
        call()
        calls += 1
    return float(rows * calls / max(time.perf_counter() - began, 1e-9))
