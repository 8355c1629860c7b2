"""Recipes on real data in a real service: from the file to answers that people's own clients get."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks import real_data
from huggingface_hub import InferenceClient

import modelry
from modelry.core.errors import InvalidInput, ModelryError
from tests.service import Service, running_service

PERSON: dict[str, Any] = {
    "age": 52,
    "workclass": "Self-emp-inc",
    "fnlwgt": 287927,
    "education": "Doctorate",
    "education_num": 16,
    "marital_status": "Married-civ-spouse",
    "occupation": "Exec-managerial",
    "relationship": "Husband",
    "race": "White",
    "sex": "Male",
    "capital_gain": 15024,
    "capital_loss": None,
    "hours_per_week": 60,
    "native_country": "Atlantis",
}


@pytest.fixture(autouse=True)
def _reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    # The official client asks nobody but the service here.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("recipes") / "home") as running:
        yield running


def bring(client: modelry.Client, name: str, shared: Path, folder: Path) -> None:
    path, options = real_data.LAYOUTS[name](shared, folder)
    client.data.add(name, path, **options)


def learn(client: modelry.Client, recipe: str, data: str, model: str, **params: Any) -> Any:
    record = client.train(recipe, data=data, model=model, **params).wait()
    return client.models.version(f"{model}:{record.notes['version']}").manifest["metrics"]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_table_with_gaps_becomes_answers_with_reasons(
    house: Service, shared_data: Path, tmp_path: Path
) -> None:
    with house.client() as client:
        bring(client, "adult", shared_data, tmp_path)
        metrics = learn(client, "mlp", "adult", "income", epochs=4)
        assert metrics["accuracy"] >= 0.85
        assert metrics["auc"] >= 0.905
        deployment = client.deploy("income")
        assert deployment.predict(PERSON).label == ">50K"
        with pytest.raises(InvalidInput, match="lacks the column 'age'"):
            deployment.predict({name: PERSON[name] for name in PERSON if name != "age"})
        reasons = client.explain("income", PERSON)
        assert reasons.label == ">50K"
        assert reasons.residual < 1e-3
        best = int(reasons.attributions.argmax())
        assert reasons.columns[best] == "capital_gain"
        asked = InferenceClient(base_url=f"{house.url}/hf/models/income", api_key=house.key)
        table = {name: [value, value] for name, value in PERSON.items()}
        assert asked.tabular_classification(table) == [">50K", ">50K"]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_messages_become_a_filter(house: Service, shared_data: Path, tmp_path: Path) -> None:
    with house.client() as client:
        bring(client, "sms-spam", shared_data, tmp_path)
        metrics = learn(
            client, "rnn", "sms-spam", "spam", vocabulary=3000, hidden=32, embedding=32, epochs=4
        )
        (spam,) = (one for one in metrics["classes"] if one["label"] == "spam")
        assert spam["f1"] >= 0.9
        client.deploy("spam")
        asked = InferenceClient(base_url=f"{house.url}/hf/models/spam", api_key=house.key)
        best, _ = asked.text_classification("WINNER!! Call 09061701461 now to claim your prize")
        assert best.label == "spam"
        best, _ = asked.text_classification("see you at home tonight, love")
        assert best.label == "ham"


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("cell", "at_least"), [("gru", 0.97), ("lstm", 0.95)])
def test_sequences_of_different_length_are_told_apart(
    house: Service, shared_data: Path, tmp_path: Path, cell: str, at_least: float
) -> None:
    with house.client() as client:
        bring(client, "japanese-vowels", shared_data, tmp_path)
        metrics = learn(client, "rnn", "japanese-vowels", f"vowels-{cell}", cell=cell)
        assert metrics["accuracy"] >= at_least
        deployment = client.deploy(f"vowels-{cell}")
        short, long = ([[0.1] * 12] * steps for steps in (7, 29))
        assert deployment.predict(short).label
        assert deployment.predict(long).label
        with pytest.raises(ModelryError):
            deployment.predict([[0.1] * 11] * 7)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_next_hours_follow_from_the_last_day(
    house: Service, shared_data: Path, tmp_path: Path
) -> None:
    with house.client() as client:
        bring(client, "beijing-pm25", shared_data, tmp_path)
        metrics = learn(client, "forecast", "beijing-pm25", "air", epochs=4)
        assert metrics["gain"] >= 0.08
        deployment = client.deploy("air")
        day = [
            {
                **dict.fromkeys(("DEWP", "TEMP", "Iws", "Is", "Ir"), 0),
                "year": 2014,
                "month": 12,
                "day": 31,
                "hour": hour,
                "PRES": 1020,
                "cbwd": "NW" if hour else None,
                "pm2.5": 80 + hour if hour < 22 else None,
            }
            for hour in range(24)
        ]
        hours = deployment.predict(day).values
        assert len(hours) == 6
        # Two hours are missing: what it starts from is the value before them.
        assert abs(hours[0] - 101) < 40
        with pytest.raises(InvalidInput, match="input 0 has 23 rows"):
            deployment.predict(day[1:])
