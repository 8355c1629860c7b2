"""What Triton's own gRPC clients do with a service, each law once; run as a program, because their messages and ours
have the same names.

python triton_grpc_client.py HOST:PORT CERTIFICATE    with the key in MODELRY_KEY; prints {law: "" or what broke}
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import queue
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.grpc as blocking
import tritonclient.grpc.aio as waiting
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

HEADERS = {"authorization": f"Bearer {os.environ['MODELRY_KEY']}"}
TYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
#: The models of `test_clients_triton_grpc.py`: one gives back what it gets, one classifies.
ECHO, ANSWERS = "echo", "answers"


def tensors(rows: int) -> dict[str, np.ndarray[Any, Any]]:
    """One for each type; its bits are of every kind."""
    rng = np.random.default_rng(rows)
    found = {}
    for name in TYPES:
        numbers = rng.integers(0, 2 if name == "bool" else 100, (rows, 3))
        found[name] = numbers.astype(name)
    found["string"] = np.array([f"字 {number}".encode() for number in range(3 * rows)], object)
    found["string"] = found["string"].reshape(rows, 3)
    return found


def inputs_of(
    arrays: dict[str, np.ndarray[Any, Any]], kind: Any = blocking.InferInput
) -> list[Any]:
    made = []
    for name, array in arrays.items():
        one = kind(f"in_{name}", list(array.shape), np_to_triton_dtype(array.dtype))
        one.set_data_from_numpy(array)
        made.append(one)
    return made


def check(result: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    for name, array in arrays.items():
        got = result.as_numpy(f"out_{name}")
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)


def row() -> list[Any]:
    one = blocking.InferInput("x", [1, 8], "FP32")
    one.set_data_from_numpy(np.full((1, 8), 0.25, np.float32))
    return [one]


def broken(call: Callable[[], Any]) -> InferenceServerException:
    try:
        call()
    except InferenceServerException as error:
        return error
    raise AssertionError("it was answered")


def the_server_lives_and_is_ready_without_a_key(client: blocking.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()


def the_server_and_its_models_are_described(client: blocking.InferenceServerClient) -> None:
    assert client.get_server_metadata(headers=HEADERS).name == "modelry"
    found = client.get_model_metadata(ECHO, headers=HEADERS, as_json=True)
    assert {one["name"] for one in found["inputs"]} == {f"in_{name}" for name in tensors(1)}
    assert found["versions"] == ["1"]
    settings = client.get_model_config(ANSWERS, headers=HEADERS).config
    assert [one.dims[:] for one in settings.input] == [[8]]
    assert client.is_model_ready(ANSWERS, headers=HEADERS)
    assert client.is_model_ready(ANSWERS, "1", headers=HEADERS)
    assert (
        broken(lambda: client.is_model_ready("nothing", headers=HEADERS))
        .status()
        .endswith("NOT_FOUND")
    )
    index = client.get_model_repository_index(headers=HEADERS)
    assert {(one.name, one.state) for one in index.models} >= {(ECHO, "READY"), (ANSWERS, "READY")}


def every_type_goes_in_and_comes_out(client: blocking.InferenceServerClient) -> None:
    for rows in (1, 5):
        arrays = tensors(rows)
        result = client.infer(ECHO, inputs_of(arrays), request_id=f"r{rows}", headers=HEADERS)
        check(result, arrays)
        assert result.get_response().id == f"r{rows}"


def messages_may_be_compressed(client: blocking.InferenceServerClient) -> None:
    arrays = tensors(200)
    for algorithm in ("gzip", "deflate"):
        options = {"headers": HEADERS, "compression_algorithm": algorithm}
        check(client.infer(ECHO, inputs_of(arrays), **options), arrays)


def outputs_may_be_chosen(client: blocking.InferenceServerClient) -> None:
    chosen = [blocking.InferRequestedOutput(f"out_{name}") for name in ("int64", "bool")]
    result = client.infer(ECHO, inputs_of(tensors(2)), outputs=chosen, headers=HEADERS)
    assert [one.name for one in result.get_response().outputs] == ["out_int64", "out_bool"]
    check(result, {name: tensors(2)[name] for name in ("int64", "bool")})


def the_best_classes_may_be_asked_for(client: blocking.InferenceServerClient) -> None:
    wanted = [blocking.InferRequestedOutput("probabilities", class_count=2)]
    answer = client.infer(ANSWERS, row(), outputs=wanted, headers=HEADERS).as_numpy("probabilities")
    assert answer.shape == (1, 2)
    score, index, label = answer[0, 0].decode().split(":")
    assert 0 < float(score) <= 1
    assert label == "abc"[int(index)]


def a_version_may_be_pinned(client: blocking.InferenceServerClient) -> None:
    answer = client.infer(ANSWERS, row(), model_version="1", headers=HEADERS).get_response()
    assert (answer.model_name, answer.model_version) == (ANSWERS, "1")
    error = broken(lambda: client.infer(ANSWERS, row(), model_version="9", headers=HEADERS))
    assert error.status().endswith("NOT_FOUND")


def calls_may_be_made_without_waiting(client: blocking.InferenceServerClient) -> None:
    heard: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    for rows in range(1, 21):
        client.async_infer(
            ECHO,
            inputs_of(tensors(rows)),
            lambda result, error: heard.put((result, error)),
            request_id=str(rows),
            headers=HEADERS,
        )
    for _ in range(20):
        result, error = heard.get(timeout=30)
        assert error is None
        check(result, tensors(int(result.get_response().id)))


def a_stream_answers_each_request(client: blocking.InferenceServerClient) -> None:
    heard: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    client.start_stream(lambda result, error: heard.put((result, error)), headers=HEADERS)
    for rows in range(1, 11):
        name = "nothing" if rows == 4 else ECHO
        client.async_stream_infer(name, inputs_of(tensors(rows)), request_id=str(rows))
    for rows in range(1, 11):
        result, error = heard.get(timeout=30)
        if rows == 4:
            assert "'nothing' does not exist" in str(error)
        else:
            assert error is None, error
            check(result, tensors(rows))
    client.stop_stream()


def a_model_may_be_unloaded_and_loaded(client: blocking.InferenceServerClient) -> None:
    client.unload_model(ANSWERS, headers=HEADERS)
    assert not client.is_model_ready(ANSWERS, headers=HEADERS)
    index = client.get_model_repository_index(headers=HEADERS)
    assert (ANSWERS, "UNAVAILABLE") in {(one.name, one.state) for one in index.models}
    client.load_model(ANSWERS, headers=HEADERS, client_timeout=60)
    assert client.is_model_ready(ANSWERS, headers=HEADERS)
    assert client.infer(ANSWERS, row(), headers=HEADERS).as_numpy("probabilities").shape == (1, 3)
    error = broken(lambda: client.load_model(ANSWERS, headers=HEADERS, config="{}"))
    assert error.status().endswith("INVALID_ARGUMENT")


def statistics_count_what_was_answered(client: blocking.InferenceServerClient) -> None:
    def counted() -> int:
        (found,) = client.get_inference_statistics(ECHO, headers=HEADERS).model_stats
        return int(found.inference_count)

    before = counted()
    client.infer(ECHO, inputs_of(tensors(3)), headers=HEADERS)
    assert counted() == before + 3


def refusals_are_told(client: blocking.InferenceServerClient) -> None:
    error = broken(lambda: client.infer(ANSWERS, row()))
    assert error.status().endswith("UNAUTHENTICATED")
    error = broken(lambda: client.infer(ANSWERS, inputs_of(tensors(1)), headers=HEADERS))
    assert error.status().endswith("INVALID_ARGUMENT")
    for options in ({"priority": 1}, {"sequence_id": 7}, {"parameters": {"mine": 1}}):
        error = broken(lambda o=options: client.infer(ANSWERS, row(), headers=HEADERS, **o))
        assert "not supported" in error.message()
    for call in (client.get_trace_settings, client.get_log_settings):
        assert broken(lambda c=call: c(headers=HEADERS)).status().endswith("UNIMPLEMENTED")
    error = broken(lambda: client.get_system_shared_memory_status(headers=HEADERS))
    assert error.status().endswith("UNIMPLEMENTED")


async def beside_a_running_loop_it_is_the_same(client: waiting.InferenceServerClient) -> None:
    assert await client.is_server_live()
    assert (await client.get_model_metadata(ECHO, headers=HEADERS)).name == ECHO
    asked = [
        client.infer(ECHO, inputs_of(tensors(rows), waiting.InferInput), headers=HEADERS)
        for rows in range(1, 31)
    ]
    for rows, result in enumerate(await asyncio.gather(*asked), 1):
        check(result, tensors(rows))


async def a_stream_beside_a_running_loop(client: waiting.InferenceServerClient) -> None:
    async def requests() -> Any:
        for rows in range(1, 11):
            yield {
                "model_name": ECHO,
                "inputs": inputs_of(tensors(rows), waiting.InferInput),
                "request_id": str(rows),
            }

    rows = 0
    async for result, error in client.stream_infer(requests(), headers=HEADERS):
        rows += 1
        assert error is None, error
        check(result, tensors(rows))
    assert rows == 10


LAWS: list[Callable[[Any], Any]] = [
    the_server_lives_and_is_ready_without_a_key,
    the_server_and_its_models_are_described,
    every_type_goes_in_and_comes_out,
    messages_may_be_compressed,
    outputs_may_be_chosen,
    the_best_classes_may_be_asked_for,
    a_version_may_be_pinned,
    calls_may_be_made_without_waiting,
    a_stream_answers_each_request,
    a_model_may_be_unloaded_and_loaded,
    statistics_count_what_was_answered,
    refusals_are_told,
    beside_a_running_loop_it_is_the_same,
    a_stream_beside_a_running_loop,
]


def main(target: str, certificate: str = "") -> dict[str, str]:
    options: dict[str, Any] = {"ssl": True, "root_certificates": certificate} if certificate else {}

    async def beside(law: Callable[[Any], Any]) -> None:
        async with waiting.InferenceServerClient(target, **options) as client:
            await law(client)

    found = {}
    with blocking.InferenceServerClient(target, **options) as client:
        for law in LAWS:
            try:
                if inspect.iscoroutinefunction(law):
                    asyncio.run(beside(law))
                else:
                    law(client)
                found[law.__name__] = ""
            except Exception:
                found[law.__name__] = traceback.format_exc()
    return found


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
