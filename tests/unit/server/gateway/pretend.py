"""Routes, and replicas without sockets that remember what they were given."""

from __future__ import annotations

from typing import Any

from modelry.core.frames import Stats
from modelry.core.records import Route
from modelry.core.states import DeploymentState
from modelry.server.gateway.dispatch import Dispatch, Pending, Reply

KEY = ("default", "digits")
REPLY = Reply(memoryview(b""), Stats(), "mnist", 1, {})


def route(
    *versions: int, wished: int = 1, state: DeploymentState = DeploymentState.READY, **more: Any
) -> Route:
    """A deployment with one replica per given version."""
    return Route(
        deployment_id="dep_1",
        project=KEY[0],
        name=KEY[1],
        state=state,
        model="mnist",
        version=wished,
        max_batch=32,
        failure=more.get("failure"),
        replicas=tuple((f"rep_{n}", version, "unix:/none") for n, version in enumerate(versions)),
        manifests=more.get("manifests", {}),
        weights=more.get("weights", ()),
        wakes=more.get("wakes", False),
        aliases=more.get("aliases", {}),
        max_in_flight=more.get("max_in_flight"),
        deadline_s=more.get("deadline_s"),
    )


class PretendLink:
    """A replica as the dispatch sees it."""

    deployment_id = "dep_1"

    def __init__(self, version: int = 1, *, is_usable: bool = True, queue_depth: int = 0) -> None:
        self.version = version
        self.is_usable = is_usable
        self.queue_depth = queue_depth
        self.requests: dict[int, Pending] = {}
        self.sent: list[Pending] = []
        self.cancelled: list[int] = []
        self.idle_calls = 0

    @property
    def in_flight(self) -> int:
        return len(self.requests)

    def send(self, request: Pending) -> None:
        self.sent.append(request)

    def cancel(self, request_id: int) -> None:
        self.cancelled.append(request_id)

    def idle(self) -> None:
        self.idle_calls += 1


class Desk:
    """A dispatch, and every answer it gave."""

    def __init__(self, *versions: int, **options: Any) -> None:
        self.dispatch = Dispatch()
        self.answers: dict[int, list[object]] = {}
        self.dispatch.route({KEY: route(*versions, **options)})

    def submit(self, **options: Any) -> Pending:
        answers: list[object] = []
        request = Pending(options.pop("key", KEY), b"", answers.append, **options)
        self.dispatch.submit(request)
        self.answers[request.id] = answers
        return request

    def open(self, version: int = 1, **options: Any) -> PretendLink:
        link = PretendLink(version, **options)
        self.dispatch.opened(link)
        return link

    def answers_to(self, request: Pending) -> list[object]:
        return self.answers[request.id]
