"""ONNX graphs on their way in: each gets rows, answers them as the original does, and says what it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper

from modelry.core.errors import InvalidParameter, NotConvertible, UnsafeFile
from modelry.core.manifests import ImageInput
from modelry.core.results import MadeModel
from tests.importing import ModelImporter, floats, linear, onnx_bytes, onnx_model

_RANDOM = np.random.default_rng(7)


def _import(importer: ModelImporter, model: ModelProto, **params: Any) -> MadeModel:
    return importer.upload({"model.onnx": onnx_bytes(model)}, **params)


def _rows(made: MadeModel) -> str:
    assert made.manifest.source is not None
    return str(made.manifest.source["graph"]["rows"])


def _ask(importer: ModelImporter, made: MadeModel, **inputs: Any) -> dict[str, Any]:
    runtime, _, _ = importer.open(made)
    return runtime.run(inputs)


def _original(model: ModelProto, **inputs: Any) -> list[Any]:
    return list(onnxruntime.InferenceSession(onnx_bytes(model)).run(None, inputs))


def _random(*shape: int) -> Any:
    return _RANDOM.random(shape, dtype=np.float32)


def _baked() -> ModelProto:
    """A classifier of one picture whose batch of 1 is part of a constant shape."""
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    weights = {"flat": np.array([1, 12], np.int64), "w": _random(12, 5)}
    return onnx_model(nodes, [floats("x", 1, 3, 2, 2)], [floats("y", 1, 5)], weights)


class TestRows:
    def test_a_graph_with_a_free_batch_is_published_byte_for_byte(
        self, model_importer: ModelImporter
    ) -> None:
        model = linear()
        made = _import(model_importer, model)
        _, manifest, folder = model_importer.open(made)
        assert (folder / "model.onnx").read_bytes() == onnx_bytes(model)
        assert manifest.inputs[0].shape == [None, 4]
        assert manifest.runtimes["onnxruntime"].verification is None

    def test_a_fixed_batch_is_freed_where_the_graph_allows_it(
        self, model_importer: ModelImporter
    ) -> None:
        model, rows = linear(rows=1), _random(9, 4)
        made = _import(model_importer, model)
        assert _rows(made) == "its batch, freed"
        answers = _ask(model_importer, made, x=rows)["y"]
        singles = [_original(model, x=row[None])[0] for row in rows]
        assert np.allclose(answers, np.concatenate(singles), atol=1e-6)

    def test_a_batch_that_is_part_of_the_graph_becomes_one_call_a_row(
        self, model_importer: ModelImporter
    ) -> None:
        model, rows = _baked(), _random(9, 3, 2, 2)
        made = _import(model_importer, model)
        assert _rows(made) == "one call a row"
        assert made.manifest.inputs[0].shape == [None, 3, 2, 2]
        answers = _ask(model_importer, made, x=rows)["y"]
        singles = [_original(model, x=row[None])[0] for row in rows]
        assert np.allclose(answers, np.concatenate(singles), atol=1e-6)
        verified = made.manifest.runtimes["onnxruntime"].verification
        assert verified is not None
        assert verified.max_difference <= verified.tolerance

    def test_a_larger_fixed_batch_that_cannot_be_freed_stays(
        self, model_importer: ModelImporter
    ) -> None:
        nodes = [
            helper.make_node("Reshape", ["x", "flat"], ["r"]),
            helper.make_node("Relu", ["r"], ["y"]),
        ]
        weights = {"flat": np.array([4, 6], np.int64)}
        model = onnx_model(nodes, [floats("x", 4, 2, 3)], [floats("y", 4, 6)], weights)
        made = _import(model_importer, model)
        assert _rows(made) == "its fixed batch"
        assert made.manifest.inputs[0].shape == [4, 2, 3]
        assert made.manifest.outputs[0].shape == [4, 6]

    def test_a_graph_without_a_batch_is_called_once_a_row(
        self, model_importer: ModelImporter
    ) -> None:
        nodes = [helper.make_node("Mul", ["x", "factor"], ["y"])]
        model = onnx_model(nodes, [floats("x", 2, 3), floats("factor")], [floats("y", 2, 3)])
        made = _import(model_importer, model)
        assert _rows(made) == "one whole call a row"
        assert [spec.shape for spec in made.manifest.inputs] == [[None, 2, 3], [None]]
        x, factor = _random(5, 2, 3), _random(5)
        answers = _ask(model_importer, made, x=x, factor=factor)["y"]
        assert np.allclose(answers, x * factor[:, None, None])

    def test_rows_that_change_each_others_answers_never_meet(
        self, model_importer: ModelImporter
    ) -> None:
        nodes = [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ]
        model = onnx_model(nodes, [floats("x", "N", 4)], [floats("y", "N", 4)])
        made = _import(model_importer, model)
        assert _rows(made) == "one whole call a row"
        steps = _random(3, 6, 4)
        answers = _ask(model_importer, made, x=steps)["y"]
        singles = [_original(model, x=each)[0] for each in steps]
        assert np.allclose(answers, np.stack(singles), atol=1e-6)

    def test_values_of_the_outer_graph_reach_inner_graphs_when_it_is_called_by_row(
        self, model_importer: ModelImporter
    ) -> None:
        branch = [
            helper.make_graph(
                [helper.make_node(kind, ["x"], [f"out{n}"])], f"b{n}", [], [floats(f"out{n}")]
            )
            for n, kind in enumerate(("Neg", "Abs"))
        ]
        nodes = [
            helper.make_node("If", ["on"], ["y"], then_branch=branch[0], else_branch=branch[1]),
        ]
        on = helper.make_tensor_value_info("on", TensorProto.BOOL, [])
        model = onnx_model(nodes, [floats("x", 3), on], [floats("y", 3)])
        made = _import(model_importer, model)
        x = _RANDOM.normal(size=(2, 3)).astype(np.float32)
        answers = _ask(model_importer, made, x=x, on=np.array([True, False]))["y"]
        assert np.allclose(answers, [-x[0], np.abs(x[1])])

    def test_old_graphs_that_list_weights_among_their_inputs_take_only_the_others(
        self, model_importer: ModelImporter
    ) -> None:
        model = _baked()
        model.ir_version = 3
        for weight in model.graph.initializer:
            kind = helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
            model.graph.input.append(kind)
        made = _import(model_importer, model)
        assert [spec.name for spec in made.manifest.inputs] == ["x"]
        assert _rows(made) == "one call a row"

    def test_random_answers_are_refused(self, model_importer: ModelImporter) -> None:
        nodes = [
            helper.make_node("RandomUniformLike", ["x"], ["noise"]),
            helper.make_node("Add", ["x", "noise"], ["y"]),
        ]
        model = onnx_model(nodes, [floats("x", "N", 4)], [floats("y", "N", 4)])
        with pytest.raises(NotConvertible, match="differently each time"):
            _import(model_importer, model)


class TestSignature:
    def test_several_inputs_and_outputs_keep_names_and_types(
        self, model_importer: ModelImporter
    ) -> None:
        nodes = [
            helper.make_node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["x", "f"], ["sum"]),
            helper.make_node("ArgMax", ["x"], ["best"], axis=1, keepdims=0),
        ]
        n = helper.make_tensor_value_info("n", TensorProto.INT64, ["N", 4])
        best = helper.make_tensor_value_info("best", TensorProto.INT64, ["N"])
        model = onnx_model(nodes, [floats("x", "N", 4), n], [best, floats("sum", "N", 4)])
        made = _import(model_importer, model)
        inputs = {spec.name: spec.dtype for spec in made.manifest.inputs}
        assert inputs == {"x": "float32", "n": "int64"}
        # The output with a number for each class stands first: doors read scores there.
        assert [spec.name for spec in made.manifest.outputs] == ["sum", "best"]

    def test_free_lengths_stay_free_and_one_that_runs_is_noted(
        self, model_importer: ModelImporter
    ) -> None:
        nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)]
        weights = {"axes": np.array([1], np.int64)}
        model = onnx_model(nodes, [floats("x", "N", "steps", 2)], [floats("y", "N", 2)], weights)
        made = _import(model_importer, model)
        spec = made.manifest.inputs[0]
        assert spec.shape == [None, None, 2]
        assert spec.example is not None
        runtime, _, _ = model_importer.open(made)
        runtime.run({"x": np.zeros((3, *spec.example), np.float32)})

    def test_weights_in_files_beside_the_graph_come_along(
        self, model_importer: ModelImporter, tmp_path: Any
    ) -> None:
        model = linear()
        onnx.save(
            model,
            str(tmp_path / "m.onnx"),
            save_as_external_data=True,
            location="w.data",
            size_threshold=0,
        )
        files = {name: (tmp_path / name).read_bytes() for name in ("m.onnx", "w.data")}
        made = model_importer.upload({f"folder/{name}": data for name, data in files.items()})
        assert set(made.manifest.files) == {"model.onnx", "w.data"}
        x = _random(3, 4)
        assert np.allclose(_ask(model_importer, made, x=x)["y"], _original(linear(), x=x)[0])

    def test_raw_data_that_no_graph_names_is_refused(self, model_importer: ModelImporter) -> None:
        files = {"model.onnx": onnx_bytes(linear()), "other.data": bytes(range(256))}
        with pytest.raises(UnsafeFile, match="no graph names it"):
            model_importer.upload(files)

    def test_two_graphs_are_refused_by_name(self, model_importer: ModelImporter) -> None:
        files = {name: onnx_bytes(linear()) for name in ("a.onnx", "b.onnx")}
        with pytest.raises(NotConvertible, match="a.onnx, b.onnx"):
            model_importer.upload(files)

    def test_maps_of_scikit_learn_are_refused_with_the_option_to_leave_them_away(
        self, model_importer: ModelImporter
    ) -> None:
        nodes = [
            helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
        ]
        kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(1, []))
        out = helper.make_value_info("y", helper.make_sequence_type_proto(kind))
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        model = onnx_model(nodes, [floats("x", "N", 2)], [out], opset_imports=opsets)
        with pytest.raises(NotConvertible) as caught:
            _import(model_importer, model)
        assert "zipmap" in caught.value.remedy

    def test_functions_of_the_graphs_own_are_followed(self, model_importer: ModelImporter) -> None:
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        twice = helper.make_function(
            "own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opsets[:1]
        )
        nodes = [helper.make_node("Twice", ["x"], ["y"], domain="own")]
        model = onnx_model(
            nodes,
            [floats("x", "N", 4)],
            [floats("y", "N", 4)],
            opset_imports=opsets,
            functions=[twice],
        )
        x = _random(2, 4)
        assert np.allclose(_ask(model_importer, _import(model_importer, model), x=x)["y"], 2 * x)


class TestMeaning:
    def test_one_picture_in_and_scores_out_is_image_classification(
        self, model_importer: ModelImporter
    ) -> None:
        made = _import(model_importer, _baked(), preprocess="imagenet")
        assert made.manifest.task == "image-classification"
        assert made.manifest.labels == ["0", "1", "2", "3", "4"]
        assert made.manifest.activation == "softmax"
        media = made.manifest.media
        assert isinstance(media, ImageInput)
        assert media.layout == "channels_first"
        assert (media.height, media.width, media.channels) == (2, 2, 3)

    def test_without_preprocessing_only_tensors_are_taken(
        self, model_importer: ModelImporter
    ) -> None:
        assert _import(model_importer, _baked()).manifest.media is None

    def test_scores_that_add_up_are_left_as_they_are(self, model_importer: ModelImporter) -> None:
        made = _import(model_importer, linear())
        assert (made.manifest.task, made.manifest.activation) == ("tabular-classification", "none")

    def test_numbers_without_a_meaning_are_tensors(self, model_importer: ModelImporter) -> None:
        made = _import(model_importer, linear(ends="Relu"))
        assert (made.manifest.task, made.manifest.labels) == ("tensor", [])

    def test_given_labels_must_fit(self, model_importer: ModelImporter) -> None:
        assert _import(model_importer, linear(), labels=["a", "b", "c"]).manifest.labels == [*"abc"]
        with pytest.raises(InvalidParameter, match="3 classes"):
            _import(model_importer, linear(), labels=["a", "b"])

    @pytest.mark.parametrize(
        "files",
        [
            {"labels.txt": "Katze\nHund\n鸟\n".encode()},
            {"labels.json": '["Katze", "Hund", "鸟"]'.encode()},
            {"config.json": '{"id2label": {"0": "Katze", "1": "Hund", "2": "鸟"}}'.encode()},
        ],
    )
    def test_labels_beside_the_graph_are_read(
        self, model_importer: ModelImporter, files: dict[str, bytes]
    ) -> None:
        made = model_importer.upload({"model.onnx": onnx_bytes(linear()), **files})
        assert made.manifest.labels == ["Katze", "Hund", "鸟"]

    def test_preprocessing_for_what_is_no_picture_is_refused(
        self, model_importer: ModelImporter
    ) -> None:
        with pytest.raises(InvalidParameter, match="for pictures"):
            _import(model_importer, linear(), preprocess="unit")

    def test_the_version_says_where_it_came_from_and_what_was_checked(
        self, model_importer: ModelImporter
    ) -> None:
        made = _import(model_importer, linear(), licence="mit")
        source = made.manifest.source
        assert source is not None
        assert (source["kind"], source["format"], source["licence"]) == ("upload", "onnx", "mit")
        assert source["files"][0]["name"] == "model.onnx"
        assert len(source["files"][0]["sha256"]) == 64
        assert len(source["checks"]) == 4
        assert made.manifest.measurements
        assert "random" in source["measured_on"]
