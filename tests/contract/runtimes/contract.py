"""What every runtime keeps, as tests to be inherited.

To try a runtime of your own: make a class `TestMine(RuntimeContract)` with a fixture `served` that gives a `Served`,
and run pytest on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from modelry.core.errors import ModelUnloadable
from modelry.core.manifests import ModelManifest
from modelry.worker.models.runtimes import Load


@dataclass(frozen=True)
class Served:
    """A model that the runtime can load: one input and one output, both float32, the batch free."""

    load: Load
    #: The form's main file, in the package's folder.
    file: Path
    manifest: ModelManifest
    #: Rows → the output, worked out without the runtime.
    expect: Callable[[Any], Any]
    tolerance: float = 1e-5

    def rows(self, count: int, seed: int = 0) -> Any:
        shape = [length or 1 for length in self.manifest.inputs[0].shape[1:]]
        return np.random.default_rng(seed).random((count, *shape), dtype=np.float32)


class RuntimeContract:
    """The laws."""

    @pytest.fixture
    def served(self) -> Served:
        raise NotImplementedError

    def ask(self, runtime: Any, served: Served, rows: Any) -> Any:
        [spec] = served.manifest.inputs
        found = runtime.run({spec.name: rows})
        assert list(found) == [output.name for output in served.manifest.outputs]
        return found[served.manifest.outputs[0].name]

    def test_it_answers_as_the_original_row_by_row(self, served: Served) -> None:
        runtime = served.load(served.file, served.manifest, 1)
        for count in (1, 3, 32, 7):
            rows = served.rows(count, seed=count)
            found = self.ask(runtime, served, rows)
            assert found.dtype == np.float32
            assert found == pytest.approx(served.expect(rows), abs=served.tolerance)

    def test_a_row_has_the_same_answer_in_every_company(self, served: Served) -> None:
        runtime = served.load(served.file, served.manifest, 1)
        rows = served.rows(9)
        together = self.ask(runtime, served, rows)
        alone = np.concatenate([self.ask(runtime, served, row[None]) for row in rows])
        assert together == pytest.approx(alone, abs=served.tolerance)
        assert self.ask(runtime, served, rows[::-1]) == pytest.approx(
            together[::-1], abs=served.tolerance
        )

    def test_more_threads_give_the_same_answers(self, served: Served) -> None:
        rows = served.rows(8)
        one, two = (
            self.ask(served.load(served.file, served.manifest, threads), served, rows)
            for threads in (1, 2)
        )
        assert one == pytest.approx(two, abs=served.tolerance)

    def test_an_answer_does_not_change_when_the_next_one_comes(self, served: Served) -> None:
        runtime = served.load(served.file, served.manifest, 1)
        first = self.ask(runtime, served, served.rows(4, seed=1))
        kept = first.copy()
        self.ask(runtime, served, served.rows(4, seed=2))
        assert np.array_equal(first, kept)

    def test_inputs_are_only_read_and_may_be_read_only_views(self, served: Served) -> None:
        runtime = served.load(served.file, served.manifest, 1)
        rows = served.rows(4)
        view = np.frombuffer(rows.tobytes(), np.float32).reshape(rows.shape)
        assert not view.flags.writeable
        found = self.ask(runtime, served, view)
        assert found == pytest.approx(served.expect(rows), abs=served.tolerance)
        assert np.array_equal(view, rows)

    def test_a_raise_leaves_it_usable(self, served: Served) -> None:
        runtime = served.load(served.file, served.manifest, 1)
        rows = served.rows(2)
        [spec] = served.manifest.inputs
        bad: list[dict[str, Any]] = [
            {},
            {spec.name: rows[..., None, None]},
            {spec.name: np.concatenate((rows, rows), axis=-1)},
            {spec.name: rows.astype(np.int64)},
        ]
        for inputs in bad:
            with pytest.raises(Exception):  # noqa: B017 — the runtime's own, or InvalidInput
                runtime.run(inputs)
            found = self.ask(runtime, served, rows)
            assert found == pytest.approx(served.expect(rows), abs=served.tolerance)

    def test_two_models_in_one_process_do_not_meet(self, served: Served) -> None:
        one, two = (served.load(served.file, served.manifest, threads) for threads in (1, 2))
        rows, others = served.rows(3, seed=1), served.rows(3, seed=2)
        for _ in range(3):
            assert self.ask(one, served, rows) == pytest.approx(
                served.expect(rows), abs=served.tolerance
            )
            assert self.ask(two, served, others) == pytest.approx(
                served.expect(others), abs=served.tolerance
            )

    def test_what_is_not_the_model_is_unloadable(self, served: Served, tmp_path: Path) -> None:
        content = served.file.read_bytes()
        for damaged in (b"", b"not a model at all", content[: len(content) // 2]):
            file = tmp_path / served.file.name
            file.write_bytes(damaged)
            with pytest.raises(ModelUnloadable):
                served.load(file, served.manifest, 1)

    def test_a_manifest_that_names_another_input_is_unloadable_or_refused(
        self, served: Served
    ) -> None:
        [spec] = served.manifest.inputs
        other = msgspec.structs.replace(spec, name="no such input")
        manifest = msgspec.structs.replace(served.manifest, inputs=[other])
        with pytest.raises(Exception):  # noqa: B017 — at the latest with the first rows
            served.load(served.file, manifest, 1).run({spec.name: served.rows(1)})
