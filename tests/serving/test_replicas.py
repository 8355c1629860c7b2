"""Real replicas behind a real gateway: equal answers, no lost request, one culprit per crash."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from modelry.core.calls import ExplainAnswer, ExplainCall, TaskCall, pack, unpack
from modelry.core.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelCrashed,
    NoReadyReplica,
    Overloaded,
    ShuttingDown,
    WorkFailed,
)
from modelry.core.frames import HEADER_SIZE, Decoder, Frame, Kind, Op, encode_frame
from modelry.core.specs import OutcomeStatus
from modelry.core.states import DeploymentState
from modelry.core.tensors import encode_payload
from tests.serving.hostile_runtime import CRASH, HANG, RAISE
from tests.serving.house import Client, House, count_lost, live, pictures, until, wait_until


def test_batched_answers_equal_single_ones(house: House) -> None:
    house.linear()
    house.started()

    async def story() -> None:
        gateway = house.gateway()
        await gateway.start()
        client = Client(house, gateway)
        xs = [pictures(1, seed) for seed in range(200)]
        singles = [(await client.ask(x))[1] for x in xs]
        together = await asyncio.gather(*(client.ask(x) for x in xs))
        assert max(reply.stats.batch_rows for reply, _ in together) > 1
        for single, (_, batched) in zip(singles, together, strict=True):
            np.testing.assert_allclose(single, batched, atol=1e-6)
        await client.check(pictures(100))
        await gateway.close()

    live(story())


def test_the_queue_goes_in_batches_when_the_runtime_was_busy(house: House) -> None:
    house.hostile()
    house.started()

    async def story() -> None:
        gateway = house.gateway()
        await gateway.start()
        client = Client(house, gateway)
        first = asyncio.create_task(client.check(np.array([[HANG, 0]])))
        await until(lambda: len(house.seen) == 2)
        others = [asyncio.create_task(client.check(np.array([[n / 64, 0]]))) for n in range(64)]
        await asyncio.sleep(0.1)
        house.release()
        replies = await asyncio.gather(first, *others)
        assert house.seen == [1, 1, 32, 32]
        assert all(reply.stats.queue_us > 50_000 for reply in replies[1:])
        await gateway.close()

    live(story())


def test_a_bad_input_fails_alone(house: House) -> None:
    house.hostile()
    house.started()

    async def story() -> None:
        gateway = house.gateway()
        await gateway.start()
        client = Client(house, gateway)
        values = [RAISE if n == 7 else n / 16 for n in range(16)]
        asked = [client.check(np.array([[value, 0]])) for value in values]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(answers.pop(7), WorkFailed)
        assert not any(isinstance(answer, BaseException) for answer in answers)
        with pytest.raises(InvalidInput, match=r"\(1, 3\)"):
            await client.ask(np.zeros((1, 3)))
        await gateway.close()

    live(story())


def test_killing_one_of_two_replicas_fails_no_request(house: House) -> None:
    house.linear()
    house.start()
    house.start()
    wait_until(lambda: all(process.address for process in house.replicas))

    async def story() -> None:
        gateway = house.gateway()
        await gateway.start()
        client = Client(house, gateway)
        answered = 0
        killed = asyncio.Event()

        async def crowd_member(seed: int) -> None:
            nonlocal answered
            after = 0
            while after < 5:
                await client.check(pictures(1, seed))
                answered += 1
                after += killed.is_set()

        crowd = [asyncio.create_task(crowd_member(seed)) for seed in range(64)]
        await until(lambda: answered > 500)
        house.replicas[0].kill()
        killed.set()
        await asyncio.gather(*crowd)
        await gateway.close()

    live(story())


def test_an_input_that_crashes_the_model_crashes_nobody_else(house: House) -> None:
    house.hostile()
    house.started()
    house.started()

    async def story() -> None:
        gateway = house.gateway()
        await gateway.start()
        client = Client(house, gateway)
        values = [CRASH if n == 20 else n / 40 for n in range(40)]
        tasks = [asyncio.create_task(client.check(np.array([[value, 0]]))) for value in values]
        # As the controller would: a dead replica is replaced.
        while not all(task.done() for task in tasks):
            for process in list(house.replicas):
                if process.popen.poll() is not None:
                    house.replicas.remove(process)
                    house.start()
            await asyncio.sleep(0.02)
            await gateway.refresh()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers.pop(20), ModelCrashed)
        assert not any(isinstance(answer, BaseException) for answer in answers)
        await gateway.close()

    live(story())


def test_a_drain_loses_nothing(house: House) -> None:
    house.linear()
    first, second = house.start(), house.start()
    wait_until(lambda: all(process.address for process in house.replicas))

    async def story() -> None:
        one, two = house.gateway(), house.gateway()
        clients = []
        lost = [count_lost(one), count_lost(two)]
        for gateway in (one, two):
            await gateway.start()
            clients.append(Client(house, gateway))
        answered = 0
        enough = False

        async def crowd_member(seed: int) -> None:
            nonlocal answered
            while not enough:
                await clients[seed % 2].check(pictures(1, seed))
                answered += 1

        crowd = [asyncio.create_task(crowd_member(seed)) for seed in range(32)]
        await until(lambda: answered > 200)
        first.drain()
        await until(lambda: first.popen.poll() is not None)
        mark = answered
        await until(lambda: answered > mark + 200)
        enough = True
        await asyncio.gather(*crowd)
        assert lost == [[0], [0]]
        await one.close()
        await two.close()

    live(story())
    outcome = first.folder.read_outcome()
    assert first.popen.returncode == 0
    assert outcome is not None
    assert outcome.status is OutcomeStatus.SUCCEEDED
    assert not (house.home.sockets / f"{first.id}.sock").exists()
    second.drain()
    second.popen.wait(10)


def test_a_roll_to_another_version_fails_no_request(house: House) -> None:
    house.linear(1)
    house.linear(2)
    old = house.started(1)

    async def story() -> None:
        gateway = house.gateway()
        lost = count_lost(gateway)
        await gateway.start()
        client = Client(house, gateway)
        versions: list[int] = []
        enough = False

        async def crowd_member(seed: int) -> None:
            while not enough:
                versions.append((await client.check(pictures(1, seed))).version)

        crowd = [asyncio.create_task(crowd_member(seed)) for seed in range(32)]
        await until(lambda: len(versions) > 100)
        house.wished = 2
        await gateway.refresh()
        new = house.start(2)
        await until(lambda: new.address is not None)
        house.replicas.remove(old)
        await gateway.refresh()
        old.drain()
        await until(lambda: old.popen.poll() is not None)
        mark = len(versions)
        await until(lambda: len(versions) > mark + 100)
        enough = True
        await asyncio.gather(*crowd)
        assert set(versions) == {1, 2}
        assert set(versions[mark:]) == {2}
        assert sum(lost) == 0
        await gateway.close()

    live(story())


def test_the_work_of_a_client_that_left_is_dropped(house: House) -> None:
    house.hostile()
    house.started()

    async def story() -> None:
        gateway = house.gateway()
        await gateway.start()
        client = Client(house, gateway)
        first = asyncio.create_task(client.check(np.array([[HANG, 0]])))
        await until(lambda: len(house.seen) == 2)
        gone = [asyncio.create_task(client.check(np.array([[0.5, 0]]))) for _ in range(10)]
        await asyncio.sleep(0.02)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        with pytest.raises(DeadlineExceeded):
            await client.ask(np.array([[0.5, 0]]), deadline_s=0.05)
        await asyncio.sleep(0.05)
        house.release()
        await first
        await client.check(np.array([[0.25, 0]]))
        assert house.seen == [1, 1, 1]
        await gateway.close()

    live(story())


def test_a_full_queue_refuses_at_once(house: House) -> None:
    house.hostile()
    house.max_queue = 2
    house.started()

    async def story() -> None:
        gateway = house.gateway()
        await gateway.start()
        client = Client(house, gateway)
        tasks = [asyncio.create_task(client.check(np.array([[HANG, 0]])))]
        await until(lambda: len(house.seen) == 2)
        tasks += [asyncio.create_task(client.check(np.array([[0.5, 0]]))) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded, match="'digits' has 2 requests"):
            await client.ask(np.array([[0.5, 0]]))
        house.release()
        await asyncio.gather(*tasks)
        await gateway.close()

    live(story())


def test_requests_wait_for_a_replica_that_is_starting_and_not_for_one_that_fails(
    house: House,
) -> None:
    house.linear()
    house.state = DeploymentState.STARTING

    async def story() -> None:
        gateway = house.gateway()
        await gateway.start()
        client = Client(house, gateway)
        waiting = asyncio.create_task(client.check(pictures(1)))
        process = house.start()
        await until(lambda: process.address is not None)
        await gateway.refresh()
        await waiting
        process.kill()
        house.replicas.clear()
        await gateway.refresh()
        with pytest.raises(DeadlineExceeded):
            await client.ask(pictures(1), deadline_s=0.05)
        house.state = DeploymentState.FAILED
        await gateway.refresh()
        with pytest.raises(NoReadyReplica):
            await client.ask(pictures(1))
        await gateway.close()
        with pytest.raises(ShuttingDown):
            await client.ask(pictures(1))

    live(story())


def test_a_request_larger_than_many_frames_comes_through(house: House) -> None:
    house.linear()
    house.started()

    async def story() -> None:
        gateway = house.gateway()
        await gateway.start()
        client = Client(house, gateway)
        large = asyncio.create_task(client.check(pictures(200_000)))
        await asyncio.gather(*(client.check(pictures(1, seed)) for seed in range(20)))
        await large
        await gateway.close()

    live(story())


def test_every_op_shares_the_replica_and_its_batches(house: House) -> None:
    house.linear()
    house.started()
    call = ExplainCall(payload=encode_payload({"x": pictures(1)}), parameters={"window": 1})

    async def story() -> None:
        gateway = house.gateway()
        await gateway.start()
        client = Client(house, gateway)
        explaining = gateway.infer(client.caller, "digits", pack(call), op=Op.EXPLAIN, rows=10)
        asked = [client.check(pictures(1, seed)) for seed in range(50)]
        explained, *_ = await asyncio.gather(explaining, *asked)
        answer = unpack(explained.payload, ExplainAnswer)
        expected = house.packages[1].expect(pictures(1))[0]
        assert answer.score == pytest.approx(expected.max(), abs=1e-5)
        assert answer.shape == [4, 2]
        with pytest.raises(InvalidInput, match="no file"):
            await gateway.infer(client.caller, "digits", pack(TaskCall(inputs="hello")), op=Op.TASK)
        await client.check(pictures(3))
        await gateway.close()

    live(story())


def test_a_link_that_speaks_nonsense_is_cut_and_the_others_go_on(house: House) -> None:
    house.linear()
    process = house.started()
    path = (process.address or "").removeprefix("unix:")
    later = bytearray(encode_frame(Frame(Kind.PING, 0)))
    later[4] = 99

    async def story() -> None:
        gateway = house.gateway()
        await gateway.start()
        client = Client(house, gateway)
        for noise in (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 9, bytes(later)):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(noise)
            # The replica speaks first, then ends the connection.
            assert Decoder().feed(await reader.readexactly(HEADER_SIZE + 16))[0].kind is Kind.STATS
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            await client.check(pictures(1))
        await gateway.close()

    live(story())


def test_a_replica_gives_its_link_up_when_the_route_is_gone(house: House) -> None:
    house.hostile()
    process = house.started()

    async def story() -> None:
        gateway = house.gateway()
        await gateway.start()
        client = Client(house, gateway)
        asked = asyncio.create_task(client.check(np.array([[HANG, 0]])))
        await until(lambda: len(house.seen) == 2)
        house.replicas.clear()
        await gateway.refresh()
        with pytest.raises(DeadlineExceeded):
            await client.ask(np.array([[0.5, 0]]), deadline_s=0.05)
        house.release()
        await asked
        process.drain()
        await until(lambda: process.popen.poll() is not None)
        await gateway.close()

    live(story())


def test_a_model_that_cannot_be_loaded_says_so(house: House) -> None:
    package = house.linear()
    broken = house.artifacts.put_bytes(b"no graph", "model.onnx")
    package.files[1] = broken
    process = house.start()
    assert process.popen.wait(20) == 0
    outcome = process.folder.read_outcome()
    assert outcome is not None
    assert outcome.failure is not None
    assert outcome.status is OutcomeStatus.FAILED
    assert outcome.failure.code == "model_unloadable"
    assert process.address is None


def test_an_orphaned_replica_ends(house: House) -> None:
    house.linear()
    process = house.started()
    process.kill()
    folder, lock = process.folder, process.folder.take_lock()
    assert lock is not None
    assert house.agent_lock is not None
    os.close(house.agent_lock)
    house.agent_lock = None
    code = (
        "from pathlib import Path; from modelry.worker.replica import main;"
        f"main(Path({str(folder.path)!r}), Path({str(house.root)!r}), {lock}, orphan_patience_s=0.2)"
    )
    orphan = subprocess.run([sys.executable, "-c", code], pass_fds=[lock], timeout=30, check=True)
    os.close(lock)
    assert orphan.returncode == 0
    outcome = folder.read_outcome()
    assert outcome is not None
    assert outcome.status is OutcomeStatus.SUCCEEDED


def test_a_replica_loads_no_training_library() -> None:
    code = (
        "import sys, json, modelry.worker.replica, modelry.worker.models.runtimes.onnxruntime;"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=30)
    loaded = set(json.loads(done.stdout))
    heavy = {"torch", "pandas", "pyarrow", "sqlalchemy", "sklearn", "fastapi", "pydantic", "fsspec"}
    assert not loaded & heavy


def test_a_replica_shows_that_it_lives(house: House) -> None:
    house.linear()
    process = house.started()
    process.popen.send_signal(signal.SIGINT)
    os.utime(process.folder.lock, (0, 0))
    wait_until(lambda: process.folder.last_sign_of_life() > 1)
