"""`huggingface_hub.InferenceClient`, unmodified, against a service: every task's answer as the client understands it.

The text models are random and tiny, converted here; their answers must be those of the same model run in this process.
"""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image

from tests.acceptance.packages import COLOURS, SOUNDS, put_folder, put_pictures, put_sounds
from tests.acceptance.shelf import publish
from tests.api import Api
from tests.service import Service, running_service
from tests.unit.worker.tasks import tiny

#: Deployment → the head of its model, and what else it is made with.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "moods": ("ForSequenceClassification", {"labels": ["sad", "glad", "calm"]}),
    "names": ("ForTokenClassification", {"labels": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]}),
    "answers": ("ForQuestionAnswering", {}),
    "vectors": ("Model", {}),
    "masks": ("ForMaskedLM", {}),
    "judge": (
        "ForSequenceClassification",
        {"labels": ["contradiction", "neutral", "entailment"]},
    ),
}
TASKS = {"judge": "zero-shot-classification", "vectors": "feature-extraction"}
TEXT = "Marie Curie worked in Paris near the river."


@dataclass
class House:
    """A running service with a model of each task."""

    service: Service
    models: dict[str, tiny.Served]

    def client(self, name: str, **options: Any) -> InferenceClient:
        return InferenceClient(base_url=self.url(name), api_key=self.service.key, **options)

    def url(self, name: str) -> str:
        return f"{self.service.url}/hf/models/{name}"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("huggingface")
    models = {name: convert(root / name, name) for name in MODELS}
    with (
        running_service(root / "home") as service,
        Api(service) as api,
        pytest.MonkeyPatch.context() as patch,
    ):
        # Other tests convert models without the network; to the client, this service is the network.
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        for name, model in models.items():
            put_folder(service, name, model.manifest, model.folder)
        put_pictures(service, "pictures")
        put_sounds(service, "sounds")
        publish(service, "rows")
        for name in (*MODELS, "pictures", "sounds", "rows"):
            api.deploy(name, name)
        yield House(service, models)


def convert(folder: Path, name: str) -> tiny.Served:
    folder.mkdir()
    head, more = MODELS[name]
    source = tiny.save_text_model(folder / "source", head, **more)
    return tiny.served(source, folder / "out", TASKS.get(name))


def picture() -> bytes:
    pixels = np.zeros((4, 3), np.uint8)
    pixels[:, 1], pixels[:, 2] = 200, 50
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def sound() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.full(4000, 16384, "<i2").tobytes())
    return out.getvalue()


def scores(found: list[Any]) -> dict[str, float]:
    return {one.label: one.score for one in found}


def same(found: Any, value: Any) -> None:
    """The client's objects hold the numbers that the task gave."""
    assert len(found) == len(value)
    for one, wanted in zip(found, value, strict=True):
        for name, number in wanted.items():
            got = getattr(one, name)
            assert got == (pytest.approx(number, abs=1e-4) if isinstance(number, float) else number)


def test_pictures_are_classified(house: House, tmp_path: Path) -> None:
    client = house.client("pictures")
    found = client.image_classification(picture())
    assert [one.label for one in found] == ["middle", "right", "left"]
    file = tmp_path / "picture.png"
    file.write_bytes(picture())
    assert scores(client.image_classification(file)) == scores(found)
    (best,) = client.image_classification(picture(), top_k=1)
    assert (best.label, best.score) == (found[0].label, found[0].score)
    assert set(scores(found)) == set(COLOURS)


def test_sounds_are_classified(house: House) -> None:
    client = house.client("sounds")
    found = client.audio_classification(sound())
    assert scores(found) == pytest.approx({"push": 0.731, "silence": 0.269}, abs=1e-3)
    assert [one.label for one in client.audio_classification(sound(), top_k=1)] == ["push"]
    assert set(scores(found)) == set(SOUNDS)


def test_texts_are_classified(house: House) -> None:
    found = house.client("moods").text_classification(TEXT)
    (value,) = house.models["moods"].value(TEXT)
    same(found, value)
    assert len(found) == 3
    best = house.client("moods").text_classification(TEXT, top_k=1)
    same(best, value[:1])


def test_tokens_are_classified(house: House) -> None:
    same(house.client("names").token_classification(TEXT), house.models["names"].value(TEXT))
    strategy = house.client("names").token_classification(TEXT, aggregation_strategy="none")
    same(strategy, house.models["names"].value(TEXT, aggregation_strategy="none"))


def test_questions_are_answered(house: House) -> None:
    asked = {"question": "Who worked in Paris?", "context": TEXT}
    found = house.client("answers").question_answering(**asked)
    value = house.models["answers"].value(asked)
    same([found], [value])
    several = house.client("answers").question_answering(**asked, top_k=3)
    same(several, house.models["answers"].value(asked, top_k=3))


def test_texts_become_vectors(house: House) -> None:
    client = house.client("vectors")
    wanted = np.frombuffer(house.models["vectors"].answer(TEXT).array, "<f4")
    found = client.feature_extraction(TEXT)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    several = client.feature_extraction([TEXT, "six"], normalize=True)
    assert several.shape == (2, 32)
    np.testing.assert_allclose(np.linalg.norm(several, axis=1), 1, atol=1e-4)


def test_sentences_are_compared(house: House) -> None:
    found = house.client("vectors").sentence_similarity(TEXT, other_sentences=[TEXT, "six rains"])
    assert found[0] == pytest.approx(1.0, abs=1e-4)
    assert found[1] < 1.0


def test_labels_that_the_model_never_saw_are_judged(house: House) -> None:
    labels = ["rain", "prizes", "bridges"]
    found = house.client("judge").zero_shot_classification(TEXT, labels)
    same(found, house.models["judge"].value(TEXT, candidate_labels=labels))
    assert sum(scores(found).values()) == pytest.approx(1.0, abs=1e-5)
    several = house.client("judge").zero_shot_classification(
        TEXT, labels, multi_label=True, hypothesis_template="It is about {}."
    )
    assert set(scores(several)) == set(labels)


def test_masks_are_filled(house: House) -> None:
    text = "Marie Curie [MASK] in Paris."
    same(house.client("masks").fill_mask(text), house.models["masks"].value(text))
    assert len(house.client("masks").fill_mask(text, top_k=2)) == 2


def test_a_version_and_a_trailing_task_may_be_named(house: House) -> None:
    for name in ("moods:1", "moods@1", "default/moods", "moods/pipeline/text-classification"):
        assert house.client(name).text_classification(TEXT)
    for name in ("moods:9", "moods@nothing", "moods/pipeline/fill-mask"):
        with pytest.raises(HfHubHTTPError):
            house.client(name).text_classification(TEXT)


def test_a_url_may_be_given_with_each_call(house: House) -> None:
    client = InferenceClient(token=house.service.key)
    assert client.text_classification(TEXT, model=house.url("moods"))


def test_the_client_hears_of_health_and_of_the_model(house: House) -> None:
    client = house.client("moods", provider="hf-inference")
    assert client.health_check(house.url("moods"))
    told = client.get_endpoint_info(model=house.url("moods"))
    assert told["model_pipeline_tag"] == "text-classification"
    assert told["max_input_length"] == 64


@pytest.mark.parametrize(
    ("name", "call", "status", "word"),
    [
        ("nothing", lambda c: c.text_classification(TEXT), 404, "does not exist"),
        ("rows", lambda c: c.text_classification(TEXT), 400, "tensors"),
        ("moods", lambda c: c.text_classification(TEXT, top_k=0), 400, "top_k"),
        ("masks", lambda c: c.fill_mask("no mask"), 400, "[MASK]"),
        ("pictures", lambda c: c.image_classification(b"no picture"), 400, "image"),
        ("moods", lambda c: c.summarization(TEXT, clean_up_tokenization_spaces=True), 400, "clean"),
    ],
)
def test_refusals_are_told(house: House, name: str, call: Any, status: int, word: str) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        call(house.client(name))
    assert caught.value.response.status_code == status
    assert word in caught.value.response.json()["error"]


def test_nobody_enters_without_a_key(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(HfHubHTTPError) as caught:
        InferenceClient(base_url=house.url("moods")).text_classification(TEXT)
    assert caught.value.response.status_code == 401


async def _beside_a_loop(house: House) -> None:
    client = AsyncInferenceClient(base_url=house.url("moods"), api_key=house.service.key)
    (value,) = house.models["moods"].value(TEXT)
    same(await client.text_classification(TEXT), value)
    await client.close()


def test_beside_a_running_loop_it_is_the_same(house: House) -> None:
    asyncio.run(_beside_a_loop(house))


def test_modelrys_own_call_says_the_same_of_a_text_and_of_a_sound(house: House) -> None:
    def ask(name: str, body: bytes, kind: str) -> Any:
        headers = {"authorization": f"Bearer {house.service.key}", "content-type": kind}
        url = f"{house.service.url}/predict/{name}"
        (found,) = (
            httpx.post(url, content=body, headers=headers).raise_for_status().json()["predictions"]
        )
        return found

    (value,) = house.models["moods"].value(TEXT)
    found = ask("moods", TEXT.encode(), "text/plain")
    assert [one["label"] for one in found["scores"]] == [one["label"] for one in value]
    assert found["score"] == pytest.approx(value[0]["score"], abs=1e-4)
    assert ask("sounds", sound(), "audio/wav")["label"] == "push"
    assert ask("sounds", sound(), "")["label"] == "push"
