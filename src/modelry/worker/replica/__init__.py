"""A replica: one process that serves one model version on a Unix socket.

The main thread owns the sockets (asyncio) and never computes; the batcher's thread computes and never touches a
socket. Between them: one queue in, one wake-up per batch out. It imports what ONNX Runtime needs and no more:
no torch, no pyarrow, no pandas.
"""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import uvloop

from modelry.core.bell import Bell
from modelry.core.errors import InternalError, ModelryError
from modelry.core.home import Home
from modelry.core.specs import Failure, Outcome, OutcomeStatus, ReplicaSpec
from modelry.worker.folder import WorkerFolder
from modelry.worker.orphans import PATIENCE_S
from modelry.worker.replica.model import load_model
from modelry.worker.replica.server import ReplicaServer

log = logging.getLogger(__name__)


def main(
    folder: Path, home_root: Path, lock_fd: int, *, orphan_patience_s: float = PATIENCE_S
) -> None:
    """One replica from its spec to its outcome. Called in a forked child, or by `python -m`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    place = WorkerFolder(folder)
    try:
        uvloop.run(_serve(place, Home(home_root), lock_fd, orphan_patience_s))
    except Exception as error:
        log.exception("replica failed")
        place.write_outcome(_failed(error, place))
    else:
        place.write_outcome(Outcome(status=OutcomeStatus.SUCCEEDED))


async def _serve(place: WorkerFolder, home: Home, lock_fd: int, orphan_patience_s: float) -> None:
    spec = place.read_spec()
    if not isinstance(spec, ReplicaSpec):
        raise InternalError(reason=f"{place.path} holds no replica", request_id="of the log")
    model = load_model(spec, place.work / "model")
    server = ReplicaServer(spec, model, home, lock_fd)

    def announce(address: str) -> None:
        place.write_address(address)
        Bell(home.sockets / "bells").ring()

    await server.run(announce, orphan_patience_s=orphan_patience_s)


def _failed(error: Exception, folder: WorkerFolder) -> Outcome:
    if not isinstance(error, ModelryError):
        error = InternalError(reason=str(error), request_id="of the log")
    failure = Failure(
        code=error.code, message=error.message, remedy=error.remedy, detail=folder.last_words()
    )
    return Outcome(status=OutcomeStatus.FAILED, failure=failure)
