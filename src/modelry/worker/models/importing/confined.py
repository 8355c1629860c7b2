"""Runs one function in a process of its own with little memory, little time and none of the caller's secrets.

For everything that opens a foreign graph: whatever it does there (eats memory, never ends, crashes the library), the
job lives on and can say so.  `python -m modelry.worker.models.importing.confined module:function` is the inner side.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from modelry.core.errors import InternalError, ModelryError, every_error, to_wire

_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1
#: Variables the inner process gets; no key, token or setting is among them.
_KEPT = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
_THREADING = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_MAX_FILES = 256
#: Words of libraries that ran out of what they may have.
_NO_MEMORY = (
    "failed to allocate",
    "bad_alloc",
    "bad allocation",
    "out of memory",
    "cannot allocate",
)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the inner process may use."""

    memory_bytes: int
    time_s: float
    #: The largest file it may write.
    file_bytes: int = 32 << 30


class Exceeded(Exception):
    """The inner process wanted more than it may have, or did not survive; the text says what."""


def run_confined(
    function: str, argument: Any, limits: Limits, check_stop: Callable[[], None] = lambda: None
) -> Any:
    """What `module:function(argument)` returns there; both are plain values.

    Raises the `ModelryError` it raised, or `Exceeded` where it went over a limit or died.
    """
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, function, str(writing)],
        stdin=subprocess.PIPE,
        stdout=sys.stderr.fileno(),
        pass_fds=(writing,),
        env={**{name: os.environ[name] for name in _KEPT if name in os.environ}, **_THREADING},
    )
    os.close(writing)
    try:
        _send(process, msgspec.msgpack.encode((limits, argument)))
        answer = _receive(reading, process, limits.time_s, check_stop)
    finally:
        os.close(reading)
        if process.poll() is None:
            process.kill()
        process.wait()
    return _open_answer(answer, process.returncode, limits)


def _send(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(data)
        process.stdin.close()
    except BrokenPipeError:
        return


def _receive(
    reading: int,
    process: subprocess.Popen[bytes],
    time_s: float,
    check_stop: Callable[[], None],
) -> bytes:
    """All it writes until it closes its end; raises `Exceeded` when its time is over."""
    os.set_blocking(reading, False)
    deadline, data = time.monotonic() + time_s, bytearray()
    while True:
        try:
            piece = os.read(reading, 1 << 20)
        except BlockingIOError:
            check_stop()
            if time.monotonic() > deadline:
                raise Exceeded(f"it took more than {time_s:g} s to load and to run") from None
            time.sleep(_POLL_S)
            continue
        if not piece:
            return bytes(data)
        data += piece


def _open_answer(answer: bytes, status: int, limits: Limits) -> Any:
    if not answer:
        if status in (-signal.SIGXCPU, -signal.SIGKILL):
            raise Exceeded(f"it took more than {limits.time_s:g} s to load and to run")
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        raise Exceeded(f"it ended the process that tried it ({how})")
    told = msgspec.msgpack.decode(answer)
    if "value" in told:
        return told["value"]
    if "exceeded" in told:
        raise Exceeded(told["exceeded"])
    error = told["error"]
    cls = every_error().get(str(error["code"]), ModelryError)
    raise cls(error["message"], remedy=error["remedy"], **told["facts"])


def main(function: str, writing: int) -> None:
    """The inner side."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    limits, argument = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=tuple[Limits, Any])
    _confine(limits)
    told = _told(function, argument, limits)
    with os.fdopen(writing, "wb") as out:
        out.write(msgspec.msgpack.encode(told))
    sys.stderr.flush()
    # Threads of libraries that still run have nothing to add.
    os._exit(0)


def _told(function: str, argument: Any, limits: Limits) -> dict[str, Any]:
    module, _, name = function.partition(":")
    try:
        return {"value": getattr(importlib.import_module(module), name)(argument)}
    except ModelryError as error:
        if _is_memory(error.message):
            return {"exceeded": _too_much(limits)}
        facts = {key: str(value) for key, value in error.facts.items()}
        return {"error": to_wire(error), "facts": facts}
    except MemoryError:
        return {"exceeded": _too_much(limits)}
    except Exception as error:
        if _is_memory(str(error)):
            return {"exceeded": _too_much(limits)}
        traceback.print_exc()
        wire = to_wire(
            InternalError(reason=f"{type(error).__name__}: {error}", request_id="of the job")
        )
        return {"error": wire, "facts": {}}


def _is_memory(text: str) -> bool:
    return any(words in text.lower() for words in _NO_MEMORY)


def _too_much(limits: Limits) -> str:
    return f"it needs more than {limits.memory_bytes >> 20} MiB of memory to load and to run"


def _confine(limits: Limits) -> None:
    seconds = int(limits.time_s) + 2
    for which, limit in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, _MAX_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(which, (limit, limit))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
