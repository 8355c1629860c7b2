"""`tritonclient[http]`, unmodified, blocking and beside a running loop, against a service with two web processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as waiting
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.acceptance.echoes import TYPES, publish_echoes
from tests.acceptance.shelf import LABELS, publish
from tests.api import Api
from tests.service import Service, running_service, wait_until

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass
class House:
    """A running service and Triton's client of it."""

    service: Service
    api: Api
    client: triton.InferenceServerClient

    @property
    def address(self) -> str:
        return self.service.url.partition("://")[2]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.service.key}"}

    def state(self, name: str) -> str:
        index = self.client.get_model_repository_index(headers=self.headers)
        (found,) = [one["state"] for one in index if one["name"] == name]
        return str(found)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("triton") / "home"
    with running_service(home, web="2") as service, Api(service) as api:
        publish_echoes(service)
        publish(service, "answers")
        for name in ("echo", "texts", "answers"):
            api.deploy(name, name)
        client = triton.InferenceServerClient(service.url.partition("://")[2], concurrency=8)
        yield House(service, api, client)
        client.close()


def tensors(rows: int) -> Arrays:
    """One for each type; its bits are of every kind."""
    rng = np.random.default_rng(rows)
    return {
        name: rng.integers(0, 2 if name == "bool" else 100, (rows, 3)).astype(name)
        for name in TYPES
    }


def inputs_of(arrays: Arrays, is_binary: Callable[[str], bool] = lambda name: True) -> list[Any]:
    made = []
    for name, array in arrays.items():
        one = triton.InferInput(f"in_{name}", list(array.shape), np_to_triton_dtype(array.dtype))
        one.set_data_from_numpy(array, binary_data=is_binary(name))
        made.append(one)
    return made


def texts(values: list[list[str]], *, is_binary: bool) -> list[Any]:
    one = triton.InferInput("in", [len(values), 3], "BYTES")
    one.set_data_from_numpy(np.array(values, object), binary_data=is_binary)
    return [one]


def row() -> list[Any]:
    one = triton.InferInput("x", [1, 8], "FP32")
    one.set_data_from_numpy(np.full((1, 8), 0.25, np.float32))
    return [one]


def check(result: Any, arrays: Arrays) -> None:
    for name, array in arrays.items():
        got = result.as_numpy(f"out_{name}")
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)


def refused(call: Callable[[], Any]) -> InferenceServerException:
    with pytest.raises(InferenceServerException) as caught:
        call()
    return caught.value


def test_the_server_lives_and_is_ready_without_a_key(house: House) -> None:
    assert house.client.is_server_live()
    assert house.client.is_server_ready()


def test_the_server_and_its_models_are_described(house: House) -> None:
    client, headers = house.client, house.headers
    told = client.get_server_metadata(headers=headers)
    assert told["name"] == "modelry"
    assert "binary_tensor_data" in told["extensions"]
    told = client.get_model_metadata("echo", headers=headers)
    assert {one["name"]: one["datatype"] for one in told["inputs"]} == {
        f"in_{name}": np_to_triton_dtype(np.dtype(name)) for name in TYPES
    }
    assert told["versions"] == ["1"]
    assert client.get_model_metadata("texts", "1", headers=headers)["inputs"] == [
        {"name": "in", "datatype": "BYTES", "shape": [-1, 3]}
    ]
    settings = client.get_model_config("answers", headers=headers)
    assert settings["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [8]}]
    assert client.is_model_ready("echo", headers=headers)
    assert client.is_model_ready("echo", "1", headers=headers)
    assert not client.is_model_ready("echo", "2", headers=headers)
    assert not client.is_model_ready("nothing", headers=headers)
    index = client.get_model_repository_index(headers=headers)
    assert {"name": "echo", "version": "1", "state": "READY", "reason": ""} in index


@pytest.mark.parametrize("algorithm", [None, "gzip", "deflate"])
@pytest.mark.parametrize("rows", [1, 40])
def test_every_type_goes_in_and_comes_out(house: House, rows: int, algorithm: str | None) -> None:
    arrays = tensors(rows)
    result = house.client.infer(
        "echo",
        inputs_of(arrays),
        request_id=f"r{rows}",
        headers=house.headers,
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    check(result, arrays)
    assert result.get_response()["id"] == f"r{rows}"
    assert result.get_response()["model_name"] == "echo"


def test_every_type_but_halves_goes_as_json_too(house: House) -> None:
    arrays = tensors(3)
    inputs = inputs_of(arrays, lambda name: name == "float16")
    outputs = [
        triton.InferRequestedOutput(f"out_{name}", binary_data=name == "float16") for name in TYPES
    ]
    check(house.client.infer("echo", inputs, outputs=outputs, headers=house.headers), arrays)
    halves = [triton.InferRequestedOutput("out_float16", binary_data=False)]
    error = refused(
        lambda: house.client.infer("echo", inputs, outputs=halves, headers=house.headers)
    )
    assert "FP16" in error.message()


@pytest.mark.parametrize("as_bytes", [True, False])
def test_texts_go_in_and_come_out(house: House, as_bytes: bool) -> None:
    values = [["a", "grüße", ""], ["七", "x" * 70_000, "\0"]]
    output = triton.InferRequestedOutput("out_bytes", binary_data=as_bytes)
    result = house.client.infer(
        "texts", texts(values, is_binary=as_bytes), outputs=[output], headers=house.headers
    )
    got = result.as_numpy("out_bytes")
    assert [[t.decode() if as_bytes else t for t in line] for line in got] == values


def test_bytes_that_are_no_text_are_refused(house: House) -> None:
    one = triton.InferInput("in", [1, 3], "BYTES")
    one.set_data_from_numpy(np.array([[b"a", b"\xff", b"c"]], object))
    error = refused(lambda: house.client.infer("texts", [one], headers=house.headers))
    assert "UTF-8" in error.message()
    wrong = triton.InferInput("x", [1, 8], "BYTES")
    wrong.set_data_from_numpy(np.full((1, 8), "a", object))
    error = refused(lambda: house.client.infer("answers", [wrong], headers=house.headers))
    assert "float32" in error.message()


def test_outputs_may_be_chosen(house: House) -> None:
    chosen = [triton.InferRequestedOutput(f"out_{name}") for name in ("int64", "bool")]
    result = house.client.infer(
        "echo", inputs_of(tensors(2)), outputs=chosen, headers=house.headers
    )
    assert [one["name"] for one in result.get_response()["outputs"]] == ["out_int64", "out_bool"]
    check(result, {name: tensors(2)[name] for name in ("int64", "bool")})


def test_the_best_classes_are_named(house: House) -> None:
    output = triton.InferRequestedOutput("probabilities", class_count=2)
    result = house.client.infer("answers", row(), outputs=[output], headers=house.headers)
    best = [text.decode().split(":") for text in result.as_numpy("probabilities")[0]]
    plain = house.client.infer("answers", row(), headers=house.headers).as_numpy("probabilities")[0]
    order = np.argsort(-plain)[:2]
    assert [(int(index), label) for _, index, label in best] == [(i, LABELS[i]) for i in order]
    np.testing.assert_allclose([float(score) for score, _, _ in best], plain[order], atol=1e-6)


def test_a_version_may_be_pinned(house: House) -> None:
    told = house.client.infer(
        "answers", row(), model_version="1", headers=house.headers
    ).get_response()
    assert (told["model_name"], told["model_version"]) == ("answers", "1")
    error = refused(
        lambda: house.client.infer("answers", row(), model_version="9", headers=house.headers)
    )
    assert error.status() == "404"


def test_an_instance_key_may_name_the_project(house: House) -> None:
    result = house.client.infer("default/answers", row(), headers=house.headers)
    assert result.get_response()["model_name"] == "default/answers"
    assert house.client.is_model_ready("default/answers", headers=house.headers)
    error = refused(
        lambda: house.client.get_model_metadata("elsewhere/answers", headers=house.headers)
    )
    assert error.status() == "404"


def test_calls_may_be_made_without_waiting(house: House) -> None:
    asked = [
        house.client.async_infer("echo", inputs_of(tensors(rows)), headers=house.headers)
        for rows in range(1, 21)
    ]
    for rows, pending in enumerate(asked, 1):
        check(pending.get_result(), tensors(rows))


def test_a_model_may_be_unloaded_and_loaded(house: House) -> None:
    client, headers = house.client, house.headers
    client.unload_model("answers", headers=headers)
    # The other web process hears of it a moment later.
    wait_until(lambda: not client.is_model_ready("answers", headers=headers), 5, "not ready")
    wait_until(lambda: house.state("answers") == "UNAVAILABLE", 5, "unavailable")
    wait_until(lambda: is_refused(house), 5, "refused")
    assert all(is_refused(house) for _ in range(20))
    client.load_model("answers", headers=headers)
    wait_until(lambda: house.state("answers") == "READY", 5, "ready")
    result = client.infer("answers", row(), headers=headers)
    assert result.as_numpy("probabilities").shape == (1, 3)
    for options in ({"config": "{}"}, {"config": "{}", "files": {"file:1/model.onnx": b"x"}}):
        error = refused(lambda o=options: client.load_model("answers", headers=headers, **o))
        assert "not supported" in error.message()
    client.unload_model("answers", headers=headers, unload_dependents=True)
    client.load_model("answers", headers=headers)


def is_refused(house: House) -> bool:
    try:
        house.client.infer("answers", row(), headers=house.headers)
    except InferenceServerException as error:
        return error.status() == "503"
    return False


def test_loading_needs_the_right_to_deploy(house: House) -> None:
    made = house.api.post("/keys", {"label": "asks", "scopes": ["infer"], "project": "default"})
    headers = {"Authorization": f"Bearer {made['text']}"}
    assert house.client.infer("answers", row(), headers=headers)
    for call in (house.client.load_model, house.client.unload_model):
        assert refused(lambda c=call: c("answers", headers=headers)).status() == "403"


def test_statistics_count_what_was_answered(house: House) -> None:
    def counted() -> tuple[int, int]:
        told = house.client.get_inference_statistics("echo", headers=house.headers)
        (found,) = told["model_stats"]
        return found["inference_count"], found["inference_stats"]["success"]["count"]

    rows, requests = counted()
    for _ in range(4):
        house.client.infer("echo", inputs_of(tensors(3)), headers=house.headers)
    assert counted() == (rows + 12, requests + 4)
    told = house.client.get_inference_statistics(headers=house.headers)
    assert {one["name"] for one in told["model_stats"]} >= {"echo", "texts", "answers"}
    told = house.client.get_inference_statistics("echo", "1", headers=house.headers)
    (found,) = told["model_stats"]
    assert found["inference_stats"]["compute_infer"]["ns"] > 0
    assert abs(found["last_inference"] / 1000 - time.time()) < 60


def test_refusals_are_told(house: House) -> None:
    client, headers = house.client, house.headers
    assert refused(lambda: client.infer("answers", row())).status() == "401"
    error = refused(lambda: client.infer("answers", inputs_of(tensors(1)), headers=headers))
    assert error.status() == "400"
    for options in ({"priority": 1}, {"sequence_id": 7}, {"timeout": 5}, {"parameters": {"my": 1}}):
        error = refused(lambda o=options: client.infer("answers", row(), headers=headers, **o))
        assert "unknown field" in error.message()
    shared = triton.InferInput("x", [1, 8], "FP32")
    shared.set_shared_memory("region", 32)
    error = refused(lambda: client.infer("answers", [shared], headers=headers))
    assert "Shared memory is not offered" in error.message()
    for call in (
        *(client.get_trace_settings, client.get_log_settings),
        *(client.get_system_shared_memory_status, client.get_cuda_shared_memory_status),
        *(client.unregister_system_shared_memory, client.unregister_cuda_shared_memory),
    ):
        assert "does not offer" in refused(lambda c=call: c(headers=headers)).message()
    register = client.register_system_shared_memory
    assert "Shared memory" in refused(lambda: register("r", "k", 8, headers=headers)).message()
    with pytest.raises(InferenceServerException, match="does not offer"):
        client.update_log_settings({"log_info": True}, headers=headers)


def test_beside_a_running_loop_it_is_the_same(house: House) -> None:
    async def story() -> None:
        async with waiting.InferenceServerClient(house.address) as client:
            assert await client.is_server_live()
            told = await client.get_model_metadata("echo", headers=house.headers)
            assert told["name"] == "echo"
            asked = [
                client.infer(
                    "echo",
                    inputs_of(tensors(rows)),
                    headers=house.headers,
                    request_compression_algorithm=algorithm,
                    response_compression_algorithm=algorithm,
                )
                for rows in range(1, 11)
                for algorithm in (None, "gzip", "deflate")
            ]
            for number, result in enumerate(await asyncio.gather(*asked)):
                check(result, tensors(1 + number // 3))
            with pytest.raises(InferenceServerException, match="does not exist"):
                await client.infer("nothing", row(), headers=house.headers)

    asyncio.run(story())
