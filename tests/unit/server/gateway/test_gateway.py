"""The gateway between a door and its dispatch: names, aliases, deadlines, permits, and one answer for each request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelry.core.errors import (
    DeadlineExceeded,
    InvalidKey,
    ModelryError,
    NotFound,
    Overloaded,
    ShuttingDown,
)
from modelry.core.keys import key_hmac, new_key
from modelry.core.manifests import ModelManifest
from modelry.core.records import Key, KeyRow, Route, Snapshot
from modelry.core.settings import Settings
from modelry.server.gateway import Caller, Gateway, Reply
from modelry.server.gateway.admission import Admission
from tests.unit.server.gateway.pretend import KEY, REPLY, PretendLink, route

TEXT = new_key()
MANIFEST = ModelManifest(
    task="t", recipe=None, inputs=[], outputs=[], labels=[], media=None, metrics={}, lineage={},
    runtimes={}, files={},
)  # fmt: skip


class Doorman(Admission):
    """Remembers who came and how they left."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []
        self.refuses = False

    def enter(self, caller: Caller, route: Route, **about: Any) -> Any:
        if self.refuses:
            raise Overloaded(name=route.name, queued=1)
        self.log.append((route.name, about["rows"], about["bytes_in"]))
        return self

    def moved(self, version: int | None) -> None:
        """It is a permit as well."""

    def leave(self, outcome: Reply | ModelryError | None, *, bytes_out: int) -> None:
        self.log.append(outcome)


class Office:
    """A gateway on a snapshot that the test writes."""

    def __init__(self, home: Path, **options: Any) -> None:
        self.number = 0
        self.routes = {KEY: self.a_route(**options)}
        self.keys = [self.a_key()]
        self.woken: list[str] = []
        self.doorman = Doorman()
        self.gateway = Gateway(
            self.read, b"p", Settings(home=home), admission=self.doorman, on_wake=self.woken.append
        )
        self.answers: list[Any] = []

    @staticmethod
    def a_route(**options: Any) -> Route:
        plain = msgspec.to_builtins(MANIFEST)
        manifests = {number: {**plain, "task": f"v{number}"} for number in (1, 2)}
        return route(1, 2, manifests=manifests, **options)

    @staticmethod
    def a_key(project: str | None = KEY[0], **more: Any) -> Key:
        return Key(
            id=TEXT.id, label="t", project=project, scopes=("infer",), created_at=0.0, **more
        )

    def read(self) -> Snapshot:
        self.number += 1
        rows = {key.id: KeyRow(key=key, secret_hmac=key_hmac(b"p", TEXT)) for key in self.keys}
        return Snapshot(number=self.number, routes=dict(self.routes), keys=rows)

    @property
    def caller(self) -> Caller:
        return self.gateway.authorize(TEXT.text, None, "infer")

    def open(self, version: int = 1) -> PretendLink:
        link = PretendLink(version)
        self.gateway._dispatch.opened(link)
        return link

    def submit(self, name: str = KEY[1], **options: Any) -> Any:
        return self.gateway.submit(self.caller, name, b"", self.answers.append, **options)

    def answer(self, link: PretendLink, at: int = 0) -> None:
        self.gateway._dispatch.answered(link, link.sent[at].id, REPLY)


@pytest.fixture
def tell(tmp_path: Path) -> Callable[..., None]:
    """Runs a story with an office."""

    def run(story: Callable[[Office], Coroutine[Any, Any, None]], **options: Any) -> None:
        async def whole() -> None:
            office = Office(tmp_path, **options)
            await office.gateway.refresh()
            for keeper in office.gateway._keepers.values():
                keeper.cancel()
            async with asyncio.timeout(10):
                await story(office)

        asyncio.run(whole())

    return run


def test_a_request_is_answered_once_and_its_permit_given_back_once(tell: Any) -> None:
    async def story(office: Office) -> None:
        link = office.open()
        ticket = office.submit(rows=3, bytes_in=50)
        office.answer(link)
        office.answer(link)
        ticket.cancel()
        ticket.expire()
        assert office.answers == [REPLY]
        assert office.doorman.log == [("digits", 3, 50), REPLY]

    tell(story)


def test_a_client_that_left_hears_nothing_and_leaves_its_permit(tell: Any) -> None:
    async def story(office: Office) -> None:
        link = office.open()
        ticket = office.submit()
        ticket.cancel()
        ticket.cancel()
        assert link.cancelled == [ticket.id]
        office.answer(link)
        assert office.answers == []
        assert office.doorman.log[1:] == [None]

    tell(story)


def test_a_deadline_is_kept_and_never_early(tell: Any) -> None:
    async def story(office: Office) -> None:
        began, told = time.monotonic(), asyncio.Event()
        office.gateway.submit(office.caller, "digits", b"", lambda _: told.set(), deadline_s=0.03)
        await told.wait()
        assert 0.03 <= time.monotonic() - began < 0.5
        assert isinstance(office.doorman.log[-1], DeadlineExceeded)
        assert "0.03 s" in str(office.doorman.log[-1])

    tell(story)


def test_a_deployments_own_deadline_counts_where_the_request_names_none(tell: Any) -> None:
    async def story(office: Office) -> None:
        with pytest.raises(DeadlineExceeded, match=r"0\.02 s"):
            await office.gateway.infer(office.caller, "digits", b"")

    tell(story, deadline_s=0.02)


def test_what_is_refused_at_once_is_answered_at_once(tell: Any) -> None:
    async def story(office: Office) -> None:
        assert office.submit("nothing") is None
        office.doorman.refuses = True
        assert office.submit() is None
        await office.gateway.close()
        assert office.submit() is None
        kinds = [type(answer) for answer in office.answers]
        assert kinds == [NotFound, Overloaded, ShuttingDown]
        assert office.doorman.log == []

    tell(story)


def test_an_alias_is_the_version_it_stands_for(tell: Any) -> None:
    async def story(office: Office) -> None:
        first, second = office.open(1), office.open(2)
        for version in (2, "beta"):
            office.submit(version=version)
            assert office.gateway.find(office.caller, "digits", version).task == "v2"
        assert (len(first.sent), len(second.sent)) == (0, 2)
        office.submit(version="gamma")
        (refusal,) = office.answers
        assert isinstance(refusal, NotFound)
        assert "beta" in refusal.remedy
        with pytest.raises(NotFound):
            office.gateway.find(office.caller, "digits", "gamma")

    tell(story, aliases={"beta": 2})


def test_an_instance_key_names_the_project_in_the_name_and_others_only_their_own(tell: Any) -> None:
    async def story(office: Office) -> None:
        office.open()
        office.submit("default/digits")
        assert office.answers == []
        office.submit("blue/digits")
        assert isinstance(office.answers[0], NotFound)
        with pytest.raises(NotFound):
            office.gateway.find(office.caller, "blue/digits")
        office.keys = [office.a_key(project=None)]
        await office.gateway.refresh()
        assert office.gateway.find(office.caller, "default/digits").task == "v1"

    tell(story)


def test_a_key_that_ended_is_not_remembered(tell: Any) -> None:
    async def story(office: Office) -> None:
        office.keys = [office.a_key(expires_at=time.time() + 0.05)]
        await office.gateway.refresh()
        assert office.caller.project == "default"
        await asyncio.sleep(0.06)
        with pytest.raises(InvalidKey):
            _ = office.caller
        office.keys = [office.a_key()]
        await office.gateway.refresh()
        assert office.caller
        office.keys = []
        await office.gateway.refresh()
        with pytest.raises(InvalidKey):
            _ = office.caller

    tell(story)


def test_a_deployment_that_sleeps_is_woken_now_and_then(tell: Any) -> None:
    async def story(office: Office) -> None:
        for _ in range(5):
            office.submit()
        assert office.woken == ["dep_1"]
        office.gateway._woken_at.clear()
        office.gateway._dispatch.wake_again()
        assert office.woken == ["dep_1", "dep_1"]
        link = office.open()
        assert len(link.sent) == 5

    tell(story, wakes=True)


def test_a_door_that_breaks_over_an_answer_breaks_nothing_else(
    tell: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(office: Office) -> None:
        link = office.open()
        office.gateway.submit(office.caller, "digits", b"", lambda _: 1 / 0)
        office.submit()
        office.answer(link, 0)
        office.answer(link, 1)
        assert office.answers == [REPLY]

    tell(story)
    assert "answer not delivered" in caplog.text
