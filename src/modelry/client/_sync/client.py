# Generated from ../_async/client.py by scripts/unasync.py; edit that file.
"""The client: one object per noun, and the two verbs of the story, `train` and `deploy`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Unpack

import httpx

from modelry.client._sync.asking import predict_all, predict_one
from modelry.client._sync.data import Data
from modelry.client._sync.deployments import DeploymentHandle, Deployments
from modelry.client._sync.explaining import explain_one
from modelry.client._sync.http import Http
from modelry.client._sync.jobs import JobHandle, Jobs
from modelry.client._sync.keys import Keys
from modelry.client._sync.models import Models
from modelry.client._sync.projects import Projects
from modelry.client._sync.usage import read_usage
from modelry.client.address import find_address
from modelry.client.explanations import Explanation
from modelry.client.predictions import Prediction
from modelry.client.refs import parse_ref
from modelry.client.serving import Serving
from modelry.core.records import Usage


class Client:
    """Speaks to one service.

    `url` defaults to `MODELRY_URL`, then to the service of the local home, then to http://127.0.0.1:8642; `key` to
    `MODELRY_KEY`, then to the local home's admin key; `project` to `MODELRY_PROJECT`, then to the key's own.
    `transport` takes the place of the network, for tests.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        project: str | None = None,
        *,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.address = find_address(url, key, project)
        self._http = Http(self.address, timeout_s=timeout_s, transport=transport)
        self.data = Data(self._http)
        self.jobs = Jobs(self._http)
        self.models = Models(self._http)
        self.deployments = Deployments(self._http)
        self.keys = Keys(self._http)
        self.projects = Projects(self._http)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address.url}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drops the connections."""
        self._http.close()

    def train(
        self,
        recipe: str,
        *,
        data: str,
        model: str,
        params: Mapping[str, Any] | None = None,
        preset: str | None = None,
        threads: int | None = None,
        memory_limit_bytes: int | None = None,
        time_limit_s: float | None = None,
        checkpoint_s: float | None = None,
        checkpoint_steps: int | None = None,
        start: str | None = None,
        freeze: bool | None = None,
        **more_params: Any,
    ) -> JobHandle:
        """Starts a training job: `client.train("cnn", data="mnist", model="mnist", epochs=5)`.

        `start` names a model version of the same recipe whose weights are the beginning; with `freeze` only the last
        layer learns. Every other keyword is a parameter of the recipe; `client.recipes()` lists them. `params` takes
        them as a mapping, for names that are keywords here.
        """
        options = {
            "preset": preset,
            "threads": threads,
            "memory_limit_bytes": memory_limit_bytes,
            "time_limit_s": time_limit_s,
            "checkpoint_s": checkpoint_s,
            "checkpoint_steps": checkpoint_steps,
            "start": start,
            "freeze": freeze,
        }
        body: dict[str, Any] = {
            "kind": "train",
            "recipe": recipe,
            "data": data,
            "model": model,
            "params": {**(params or {}), **more_params},
        }
        body.update({name: value for name, value in options.items() if value is not None})
        return self.jobs.create(body)

    def deploy(
        self,
        model: str,
        *,
        name: str | None = None,
        wait: bool = True,
        **serving: Unpack[Serving],
    ) -> DeploymentHandle:
        """Puts a model version (`digits`, `digits:3`, `digits@production`) to work, and waits until it answers.

        The deployment has the model's name unless given another; `serving` are the fields of `Serving`.
        """
        name = name or parse_ref(model).name
        handle = self.deployments.create(model, name=name, **serving)
        if wait:
            handle.wait_ready()
        return handle

    def predict(
        self,
        deployment: str,
        x: Any,
        *,
        top_k: int | None = None,
        version: int | None = None,
        timeout_s: float | None = None,
    ) -> Prediction:
        """One answer of a deployment by its name; a key with the scope `infer` is enough.

        `x`: a path, bytes, a PIL image, an array or nested lists of numbers.
        """
        options = {"top_k": top_k, "version": version}
        return predict_one(self._http, deployment, x, timeout_s=timeout_s, **options)

    def predict_many(
        self,
        deployment: str,
        xs: Iterable[Any],
        *,
        top_k: int | None = None,
        version: int | None = None,
        timeout_s: float | None = None,
    ) -> list[Prediction]:
        """One answer per input, in order."""
        options = {"top_k": top_k, "version": version}
        return predict_all(self._http, deployment, xs, timeout_s=timeout_s, **options)

    def usage(
        self,
        by: str | Sequence[str] = "deployment",
        *,
        since: datetime | float | None = None,
        until: datetime | float | None = None,
        all_projects: bool = False,
    ) -> list[Usage]:
        """Requests, rows, bytes and compute time, told apart by `key`, `deployment`, `version` and `day`.

        Moments count in whole hours; a request is in here about two seconds after its end. `all_projects` is for
        instance keys, and tells projects apart too.
        """
        return read_usage(self._http, by, since=since, until=until, all_projects=all_projects)

    def explain(
        self,
        deployment: str,
        x: Any,
        *,
        method: str | None = None,
        label: str | None = None,
        version: int | None = None,
        timeout_s: float | None = None,
        settings: Mapping[str, Any] | None = None,
        **more_settings: Any,
    ) -> Explanation:
        """What each part of one input gave to the score of a label (the best one if none is named).

        `method` is `occlusion` (pictures) or `kernel-shap` (pictures and tables). Every other keyword is a setting of
        the method (`window`, `stride`, `patch`, `evaluations`, `seed`, `baseline`); `settings` takes them as a mapping.
        """
        return explain_one(
            self._http,
            deployment,
            x,
            method=method,
            label=label,
            version=version,
            timeout_s=timeout_s,
            settings={**(settings or {}), **more_settings},
        )

    def predict_batch(
        self,
        *,
        data: str,
        model: str,
        name: str | None = None,
        split: str | None = None,
        max_batch: int | None = None,
        threads: int | None = None,
        memory_limit_bytes: int | None = None,
        time_limit_s: float | None = None,
    ) -> JobHandle:
        """Starts a job that asks a model version about every row of a data set: no deployment is needed.

        The answers become a version of the data set `name` (`DATA-by-MODEL` if none is given), which
        `job.record.makes` names. `split` reads only one part of the data.
        """
        options = {
            "name": name,
            "split": split,
            "max_batch": max_batch,
            "threads": threads,
            "memory_limit_bytes": memory_limit_bytes,
            "time_limit_s": time_limit_s,
        }
        body: dict[str, Any] = {"kind": "predict-batch", "data": data, "model": model}
        body.update({key: value for key, value in options.items() if value is not None})
        return self.jobs.create(body)

    def analyze(
        self,
        target: str,
        *,
        data: str | None = None,
        preset: str | None = None,
        params: Mapping[str, Any] | None = None,
        behaviour: bool | None = None,
        threads: int | None = None,
    ) -> JobHandle:
        """Starts a job that counts and times what each layer costs; `analysis_in(job.record.notes)` reads the answer.

        `target` is a model version (`digits`, `digits:3`, `digits@best`), or a recipe's name with the `data` whose
        rows its network is for; then `behaviour` also tells how descent behaves on them. The other arguments are the
        recipe's.
        """
        options = {"data": data, "preset": preset, "behaviour": behaviour, "threads": threads}
        body: dict[str, Any] = {"kind": "analyze", "target": target, "params": dict(params or {})}
        body.update({key: value for key, value in options.items() if value is not None})
        return self.jobs.create(body)

    def recipes(self) -> list[dict[str, Any]]:
        """What can be trained: the cards with all parameters and their bounds."""
        found: list[dict[str, Any]] = self._http.get("/api/v1/recipes")
        return found

    def status(self) -> dict[str, Any]:
        """The service's own state: version, counts, controller, workers, storage."""
        found: dict[str, Any] = self._http.get("/api/v1/status")
        return found

    def health(self) -> dict[str, Any]:
        """Whether the service answers at all; needs no key."""
        found: dict[str, Any] = self._http.get("/health")
        return found

    def gc(self, grace_s: float | None = None) -> dict[str, Any]:
        """Removes content that nothing names any more and that is older than the grace period."""
        body = {} if grace_s is None else {"grace_s": grace_s}
        found: dict[str, Any] = self._http.post("/api/v1/gc", body)
        return found
