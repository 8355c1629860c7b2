"""Usage on its way into the store: once, whenever the controller dies, and told apart as it is asked for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelry.core.errors import InvalidParameter, InvalidRequest, StaleEpoch, StoreUnavailable
from modelry.core.home import Home
from modelry.core.records import KeyLimits
from modelry.server.control import usage as usage_rules
from modelry.server.control.load import read_loads
from modelry.server.control.usage import UsageLoop
from modelry.server.gateway import layout
from modelry.server.gateway.admission import Admission
from modelry.server.gateway.counters import Counters
from modelry.server.gateway.journal import Journal, journals
from modelry.server.gateway.limits import month_of
from modelry.server.gateway.table import WORD, table_files
from modelry.server.gateway.totals import read_counted
from modelry.server.store import Store, keys, usage
from tests.unit.server.gateway.counting import caller, reply, route

LEASE = "controller"


class Web:
    """A web process that the test ends as it likes."""

    def __init__(self, home: Home, name: str) -> None:
        self.counters = Counters.open(home.counters, name)
        self.admission = Admission(self.counters)
        self.journal = Journal(home.usage, name)

    def answer(self, number: int, key_id: str = "k1") -> None:
        for _ in range(number):
            permit = self.admission.enter(
                caller(key_id), route(), rows=2, bytes_in=10, deadline_s=30
            )
            permit.leave(reply(), bytes_out=5)

    def write(self) -> None:
        self.journal.write(self.counters.take_touched(), time.time())

    def die(self) -> None:
        self.counters.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.run.mkdir(mode=0o700)
    return home


@pytest.fixture
def store(home: Home) -> Store:
    store = Store(f"sqlite:///{home.database}")
    store.migrate(None)
    return store


@pytest.fixture
def epoch(store: Store) -> int:
    epoch = store.acquire_lease(LEASE, "test", 60)
    assert epoch is not None
    return epoch


def step(store: Store, home: Home, epoch: int) -> None:
    """One look of a controller that has just begun."""
    UsageLoop(store, home).step(epoch)


def look_often(store: Store, home: Home, epoch: int) -> None:
    for _ in range(3):
        step(store, home, epoch)


def requests(store: Store) -> int:
    return sum(one.requests for one in usage_rules.total(store, [], project="default"))


def test_what_is_written_is_stored_once_however_often_it_is_looked_for(
    store: Store, home: Home, epoch: int
) -> None:
    web = Web(home, "web0-a")
    for _ in range(3):
        web.answer(4)
        web.write()
        step(store, home, epoch)
        step(store, home, epoch)
    assert requests(store) == 12
    web.answer(1)
    step(store, home, epoch)
    assert requests(store) == 12


def test_of_a_process_that_ended_everything_is_stored_and_every_file_goes(
    store: Store, home: Home, epoch: int
) -> None:
    web = Web(home, "web0-a")
    web.answer(4)
    web.write()
    web.answer(3)
    web.die()
    for _ in range(3):
        step(store, home, epoch)
    assert requests(store) == 7
    assert journals(home.usage) == {}
    assert read_counted(home.counters).totals("dep_1").answered == 7
    with store.read() as tx:
        assert usage.offsets(tx) == {}


def test_a_controller_that_dies_between_file_and_store_harms_nothing(
    store: Store, home: Home, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = Web(home, "web0-a")
    web.answer(4)
    web.die()

    def die(*_: object) -> None:
        raise StoreUnavailable(reason="the power went")

    for part in ("add", "set_offset", "forget_journals"):
        with monkeypatch.context() as patch:
            patch.setattr(usage, part, die)
            with pytest.raises(StoreUnavailable):
                look_often(store, home, epoch)
    for _ in range(3):
        step(store, home, epoch)
    assert requests(store) == 4


def test_who_does_not_lead_stores_nothing(store: Store, home: Home, epoch: int) -> None:
    web = Web(home, "web0-a")
    web.answer(4)
    web.write()
    with pytest.raises(StaleEpoch):
        step(store, home, epoch + 1)
    assert requests(store) == 0
    step(store, home, epoch)
    assert requests(store) == 4


def test_usage_is_told_apart_by_what_is_asked(store: Store, home: Home, epoch: int) -> None:
    web = Web(home, "web0-a")
    web.answer(4)
    web.answer(2, "k2")
    web.write()
    step(store, home, epoch)
    (all_of_it,) = usage_rules.total(store, [], project="default")
    assert (all_of_it.requests, all_of_it.rows, all_of_it.bytes_in, all_of_it.bytes_out) == (
        6,
        12,
        60,
        30,
    )
    assert all_of_it.compute_s == pytest.approx(6 * 0.0005)
    by_key = usage_rules.total(store, ["key"], project="default")
    assert [(one.key, one.requests, one.day) for one in by_key] == [
        ("k1", 4, None),
        ("k2", 2, None),
    ]
    (one,) = usage_rules.total(store, ["version", "day"], project=None)
    assert (one.project, one.deployment, one.model, one.version) == (
        "default",
        "digits",
        "mnist",
        1,
    )
    assert one.day == time.strftime("%Y-%m-%d", time.gmtime())
    now = time.time()
    assert usage_rules.total(store, [], project="default", since=now - 10) == [all_of_it]
    assert usage_rules.total(store, [], project="default", since=now + 7200) == []
    assert usage_rules.total(store, [], project="default", until=now - 7200) == []
    with pytest.raises(InvalidParameter):
        usage_rules.total(store, ["colour"], project="default")
    with pytest.raises(InvalidRequest):
        usage_rules.total(store, [], project="default", since=5, until=5)


def test_use_of_a_project_that_is_gone_is_kept_for_those_who_see_all(
    store: Store, home: Home, epoch: int
) -> None:
    counters, journal = Counters.open(home.counters, "web0-a"), Journal(home.usage, "web0-a")
    record = counters.record(layout.USAGE, ("gone", "k1", "dep_1", "d", "m", 1))
    record.words[record.at] += 3
    journal.write([record], time.time())
    step(store, home, epoch)
    assert requests(store) == 0
    (one,) = usage_rules.total(store, [], project=None)
    assert (one.project, one.requests) == (None, 3)


def test_a_quota_knows_what_the_store_knows_when_the_tables_are_lost(
    store: Store, home: Home, epoch: int
) -> None:
    with store.write() as tx:
        keys.create(
            tx, id="k1", label="", project="default", scopes=["infer"], secret_hmac=b"",
            limits=KeyLimits(requests_per_month=100),
        )  # fmt: skip
    web = Web(home, "web0-a")
    web.answer(30)
    web.die()
    step(store, home, epoch)
    step(store, home, epoch)
    for path in home.counters.iterdir():
        path.unlink()
    step(store, home, epoch)
    month = month_of(time.time())
    assert read_counted(home.counters).months == {"k1": (month, 30, 60)}
    step(store, home, epoch)
    assert read_counted(home.counters).months == {"k1": (month, 30, 60)}


def test_loads_are_what_the_autoscaler_needs(home: Home) -> None:
    assert read_loads(home) == {}
    first, second = Web(home, "web0-a"), Web(home, "web1-a")
    first.answer(3)
    waiting = first.admission.enter(caller(), route(0), rows=1, bytes_in=0, deadline_s=30)
    waiting.moved(None)
    second.admission.enter(caller(), route(), rows=1, bytes_in=0, deadline_s=30).moved(1)
    load = read_loads(home)["dep_1"]
    assert (load.waiting, load.in_flight, load.requests, load.queue_us) == (1, 1, 3, 300)
    assert abs(load.last_request_at - time.time()) < 60
    first.die()
    load = read_loads(home)["dep_1"]
    assert (load.waiting, load.in_flight, load.requests) == (0, 1, 3)


# What other versions left behind.


def make_older(home: Home, name: str) -> None:
    """As if another version, with other counters, had written this process's table."""
    with open(home.counters / name, "r+b") as file:
        file.seek(WORD)
        file.write((1).to_bytes(WORD, "little"))


def leave_past(home: Home, **more: Any) -> None:
    """The past as another version wrote it: one counter more in each record."""
    name = ["default", "dep_1", "digits", "mnist", 1]
    past = {"versions": [(name, [1] * (layout.VERSION_SIZE + 1))], **more}
    (home.counters / "past.msgpack").write_bytes(msgspec.msgpack.encode(past))


@pytest.mark.parametrize("more", [{"format": 1}, {"format": layout.FORMAT}, {}])
def test_a_home_that_another_version_counted_in_comes_up(
    store: Store, home: Home, epoch: int, more: dict[str, int]
) -> None:
    older, web = Web(home, "web0-old"), Web(home, "web0-new")
    older.answer(3)
    older.write()
    older.die()
    make_older(home, "web0-old")
    leave_past(home, **more)
    web.answer(2)
    web.write()
    look_often(store, home, epoch)
    assert read_loads(home)["dep_1"].requests == 2
    assert read_counted(home.counters).totals("dep_1").answered == 2
    assert not (home.counters / "web0-old").exists()
    web.die()
    look_often(store, home, epoch)
    assert read_counted(home.counters).totals("dep_1").answered == 2
    with store.read() as tx:
        assert sum(one.requests for one in usage.total(tx, ["key"], project="default")) == 5


@pytest.mark.parametrize(
    "content", [b"", b"x", b"no table", bytes(4096), b"\xff" * 4096, b"\xc1\x80" * 3000]
)
def test_what_is_no_table_is_removed_and_a_past_that_cannot_be_read_begins_anew(
    store: Store, home: Home, epoch: int, content: bytes
) -> None:
    web = Web(home, "web0-1")
    (home.counters / "foreign").write_bytes(content)
    (home.counters / "past.msgpack").write_bytes(content)
    web.answer(2)
    look_often(store, home, epoch)
    assert read_counted(home.counters).totals("dep_1").answered == 2
    assert {path.name for path in table_files(home.counters)} == {"web0-1"}


def test_the_journal_of_a_living_process_of_another_version_stays(
    store: Store, home: Home, epoch: int
) -> None:
    older = Web(home, "web0-old")
    older.answer(3)
    older.write()
    make_older(home, "web0-old")
    look_often(store, home, epoch)
    assert (home.counters / "web0-old").exists()
    assert set(journals(home.usage)) == {"web0-old"}
