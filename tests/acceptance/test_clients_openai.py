"""`openai`, unmodified, blocking and beside a running loop, against a service: models and embeddings."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openai
import pytest

from tests.acceptance.packages import put_folder
from tests.acceptance.shelf import publish
from tests.api import Api
from tests.service import Service, running_service
from tests.unit.worker.tasks import tiny

TEXTS = ["Marie Curie worked in Paris.", "six"]


@dataclass
class House:
    """A running service with a model of embeddings, and OpenAI's client of it."""

    service: Service
    api: Api
    client: openai.OpenAI
    vectors: np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root: Path = tmp_path_factory.mktemp("openai")
    model = tiny.served(
        tiny.save_text_model(root / "source", "Model"), root / "out", "feature-extraction"
    )
    answer = model.answer(TEXTS)
    vectors = np.frombuffer(answer.array, "<f4").reshape(answer.shape)
    with running_service(root / "home") as service, Api(service) as api:
        put_folder(service, "vectors", model.manifest, model.folder)
        publish(service, "rows")
        for name in ("vectors", "rows"):
            api.deploy(name, name)
        client = openai.OpenAI(base_url=f"{service.url}/v1", api_key=service.key, max_retries=0)
        yield House(service, api, client, vectors)
        client.close()


def test_embeddings_come_packed_or_as_numbers(house: House) -> None:
    create = house.client.embeddings.create
    for found in (
        create(model="vectors", input=TEXTS),
        create(model="vectors", input=TEXTS, encoding_format="float"),
    ):
        got = np.array([one.embedding for one in found.data], np.float32)
        np.testing.assert_allclose(got, house.vectors, atol=1e-4)
        assert [one.index for one in found.data] == [0, 1]
        assert found.model == "vectors"
        assert found.usage.prompt_tokens == found.usage.total_tokens > len(TEXTS)
    packed = create(model="vectors", input=TEXTS[0], encoding_format="base64").data[0].embedding
    got = np.frombuffer(base64.b64decode(str(packed)), "<f4")
    np.testing.assert_allclose(got, house.vectors[0], atol=1e-4)


def test_one_text_is_one_vector(house: House) -> None:
    (found,) = house.client.embeddings.create(model="vectors", input=TEXTS[1]).data
    np.testing.assert_allclose(found.embedding, house.vectors[1], atol=1e-4)


def test_a_version_and_a_project_may_be_named(house: House) -> None:
    for name in ("vectors:1", "vectors@1", "default/vectors", "default/vectors:1"):
        assert house.client.embeddings.create(model=name, input="a").model == name


def test_the_vectors_own_size_may_be_asked_for(house: House) -> None:
    found = house.client.embeddings.create(model="vectors", input="a", dimensions=32)
    assert len(found.data[0].embedding) == 32


def test_each_refusal_is_the_clients_own_class(house: House) -> None:
    create = house.client.embeddings.create
    for options, word in (
        ({"input": "a", "dimensions": 8}, "32"),
        ({"input": "a", "user": "me"}, "user"),
        ({"input": [1, 2, 3]}, "tokens"),
        ({"input": "long " * 500}, "64 tokens"),
        ({"input": "a", "model": "rows"}, "embeddings"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            create(**{"model": "vectors", **options})
        assert word in caught.value.message
        assert caught.value.type == "invalid_request_error"
        assert caught.value.request_id
    with pytest.raises(openai.NotFoundError) as missing:
        create(model="nothing", input="a")
    assert missing.value.code == "not_found"
    with pytest.raises(openai.AuthenticationError):
        house.client.with_options(api_key="mk_wrong").embeddings.create(model="vectors", input="a")
    made = house.api.post("/keys", {"label": "reads", "scopes": ["read"], "project": "default"})
    with pytest.raises(openai.PermissionDeniedError):
        house.client.with_options(api_key=made["text"]).models.list()


def test_models_are_listed_and_described(house: House) -> None:
    listed = house.client.models.list()
    assert [model.id for model in listed] == ["rows", "vectors"]
    found = house.client.models.retrieve("vectors")
    assert (found.id, found.object, found.owned_by) == ("vectors", "model", "default")
    assert found.created > 1_600_000_000
    status = found.model_dump()["model_version_status"]
    assert [one["state"] for one in status] == ["AVAILABLE"]
    assert house.client.models.retrieve("vectors:1").id == "vectors:1"
    assert house.client.models.retrieve("default/vectors").owned_by == "default"
    for id in ("nothing", "vectors:9"):
        with pytest.raises(openai.NotFoundError):
            house.client.models.retrieve(id)


def test_deleting_a_model_ends_its_deployment(house: House) -> None:
    house.api.deploy("rows", "brief")
    infer = house.api.post("/keys", {"label": "asks", "scopes": ["infer"], "project": "default"})
    with pytest.raises(openai.PermissionDeniedError):
        house.client.with_options(api_key=infer["text"]).models.delete("brief")
    with pytest.raises(openai.BadRequestError):
        house.client.models.delete("brief:1")
    assert house.client.models.delete("brief").deleted
    with pytest.raises(openai.NotFoundError):
        house.client.models.retrieve("brief")


def test_beside_a_running_loop_it_is_the_same(house: House) -> None:
    async def story() -> None:
        url = f"{house.service.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=house.service.key) as client:
            asked = [client.embeddings.create(model="vectors", input=text) for text in TEXTS * 8]
            for number, found in enumerate(await asyncio.gather(*asked)):
                np.testing.assert_allclose(
                    found.data[0].embedding, house.vectors[number % 2], atol=1e-4
                )
            assert [model.id async for model in client.models.list()] == ["rows", "vectors"]

    asyncio.run(story())
