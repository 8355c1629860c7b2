"""The running service: its processes, the signals to it, and its orderly end.

Nothing depends on that end. After kill -9 of the supervisor the kernel ends its children, workers go on by themselves,
and the next start adopts them.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from types import FrameType

from modelry import __version__
from modelry.core.durable import write_durably
from modelry.core.errors import ModelryError
from modelry.core.settings import Settings
from modelry.server.compute.local import LocalCompute
from modelry.server.supervisor.child import Child, rotate
from modelry.server.supervisor.door import answers, grpc_target, local_url

#: How long jobs may take to write a checkpoint at the end, and after a second Ctrl-C.
GRACE_S = 30.0
_HURRIED_GRACE_S = 2.0
#: For each of the service's own processes after a second Ctrl-C.
_HURRIED_S = 4.0
_CONTROLLER_S = 10.0
_WEB_S = 40.0
#: For the agent itself, beyond the grace of its workers.
_AGENT_S = 5.0
_POLL_S = 1.0
#: Between two looks for the first answer, and the patience of each.
_HEALTH_PAUSE_S = 0.05
_HEALTH_TIMEOUT_S = 0.5
#: Without an answer for so long, people are told where to look.
_SLOW_S = 30.0


class Service:
    """All processes of one home; `run` returns when they have ended."""

    def __init__(
        self,
        settings: Settings,
        door: socket.socket,
        grpc_doors: Sequence[socket.socket],
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._home = settings.places
        self._port: int = door.getsockname()[1]
        #: What programs on this machine are told; None where gRPC is turned off.
        self._grpc_target: str | None = None
        if grpc_doors:
            self._grpc_target = grpc_target(settings.host, grpc_doors[0].getsockname()[1])
        self._say = say
        self._began = time.monotonic()
        self._is_announced = False
        self._is_said_slow = False
        #: Signals that asked for the end.
        self._stops = 0
        self._is_hurried = False
        self._wake_up, self._alarm = socket.socketpair()
        environment = self._environment()
        # An agent needs no database and gets no way to it.
        without_database = {
            name: value for name, value in environment.items() if name != "MODELRY_DATABASE_URL"
        }
        self._agent = self._child("agent", "modelry.worker.agent", without_database)
        self._controller = self._child(
            "controller", "modelry.server.control.controller", environment
        )
        self._web = [
            self._web_child(index, door, grpc_doors[index : index + 1], environment)
            for index in range(settings.web)
        ]

    @property
    def children(self) -> list[Child]:
        return [self._agent, self._controller, *self._web]

    def run(self) -> None:
        """Keep everything running until a signal says to stop; then stop everything."""
        self._listen_to_signals()
        for child in self.children:
            rotate(child.log)
        while not self._stops:
            self._tend()
            self._announce()
            self._wait(self._patience_s())
        self._stop()

    def _tend(self) -> None:
        now = time.monotonic()
        for child in self.children:
            news = child.tend(now)
            if news is not None:
                self._say(news)

    def _announce(self) -> None:
        """Once the service answers: tell programs (`service.json`) and people."""
        if self._is_announced:
            return
        if not answers(self._settings, self._port, _HEALTH_TIMEOUT_S):
            if not self._is_said_slow and time.monotonic() - self._began > _SLOW_S:
                self._is_said_slow = True
                self._say(f"No answer after {_SLOW_S:g} s; {self._home.logs} may tell why.")
            return
        self._is_announced = True
        url = local_url(self._settings, self._port)
        facts: dict[str, object] = {
            "url": url,
            "pid": os.getpid(),
            "started_at": time.time(),
            "version": __version__,
        }
        if self._grpc_target:
            facts["grpc_url"] = self._grpc_target
        write_durably(self._home.service, json.dumps(facts).encode())
        self._say(f"Modelry {__version__} answers at {url}")
        if self._grpc_target:
            self._say(f"gRPC (Open Inference Protocol) at {self._grpc_target}")
        self._say(f"The admin key lies in {self._home.admin_key}")
        self._say("Ctrl-C ends it; running jobs keep a checkpoint and go on at the next start.")

    def _patience_s(self) -> float:
        if not self._is_announced:
            return _HEALTH_PAUSE_S
        starts = [child.start_at for child in self.children if child.start_at is not None]
        return max(0.0, min([_POLL_S, *(at - time.monotonic() for at in starts)]))

    def _stop(self) -> None:
        """First who orders work, then who takes requests, then who does the work."""
        self._say("Ending: requests are answered, jobs write a checkpoint.")
        self._controller.signal(signal.SIGTERM)
        for web in self._web:
            web.signal(signal.SIGTERM)
        self._end([self._controller], _CONTROLLER_S)
        self._end(self._web, _WEB_S)
        self._shut_down_agent()
        self._end([self._agent], GRACE_S + _AGENT_S)
        self._home.service.unlink(missing_ok=True)
        self._clear_sockets()
        self._say("Ended.")

    def _clear_sockets(self) -> None:
        """Remove the folders that are empty now; one that holds a living replica's socket stays."""
        sockets = self._home.sockets
        for folder in (sockets / "bells", sockets):
            with suppress(OSError):
                folder.rmdir()

    def _shut_down_agent(self) -> None:
        """Ask the agent to stop all workers and then to end; asked again, the shorter grace holds."""
        if not self._agent.is_alive:
            return
        grace_s = _HURRIED_GRACE_S if self._is_hurried else GRACE_S
        compute = LocalCompute(self._home, timeout_s=_AGENT_S)
        try:
            compute.shutdown(grace_s)
        except ModelryError as error:
            self._say(f"{error} Jobs that still run end by themselves within a minute.")
        finally:
            compute.close()

    def _end(self, children: Sequence[Child], within_s: float) -> None:
        """Wait for the end of these; kill them when the time is over. A second Ctrl-C shortens it."""
        began = time.monotonic()
        while any(child.is_alive for child in children):
            if self._stops > 1 and not self._is_hurried:
                self._hurry()
                began = time.monotonic()
            patience_s = _HURRIED_S if self._is_hurried else within_s
            left_s = began + patience_s - time.monotonic()
            if left_s <= 0:
                for child in children:
                    child.signal(signal.SIGKILL)
            self._wait(min(_POLL_S, max(_HEALTH_PAUSE_S, left_s)))

    def _hurry(self) -> None:
        """People pressed Ctrl-C again."""
        self._is_hurried = True
        self._say("Ending within seconds; jobs go on from their last checkpoint.")
        self._shut_down_agent()

    def _listen_to_signals(self) -> None:
        """Signals only wake the loop and count; nothing else happens inside a handler."""
        self._wake_up.setblocking(False)
        self._alarm.setblocking(False)
        signal.set_wakeup_fd(self._alarm.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._count_stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            # Under `nohup` a closed terminal is no reason to end.
            signal.signal(signal.SIGHUP, self._count_stop)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def _count_stop(self, number: int, frame: FrameType | None) -> None:
        self._stops += 1

    def _wait(self, timeout_s: float) -> None:
        select.select([self._wake_up], [], [], timeout_s)
        with suppress(BlockingIOError):
            while self._wake_up.recv(256):
                pass

    def _environment(self) -> dict[str, str]:
        """The variables of all processes: the caller's, with the settings as they were read."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("MODELRY_")}
        return {**kept, **self._settings.environment(), "MODELRY_PORT": str(self._port)}

    def _child(
        self,
        name: str,
        module: str,
        environment: dict[str, str],
        *arguments: str,
        keep_fds: Iterable[int] = (),
    ) -> Child:
        # -P: nothing that happens to lie in the current folder is imported.
        command = [sys.executable, "-P", "-m", module, *arguments]
        log = self._home.logs / f"{name}.log"
        return Child(name, command, environment, log, tuple(keep_fds))

    def _web_child(
        self,
        index: int,
        door: socket.socket,
        grpc_doors: Sequence[socket.socket],
        environment: dict[str, str],
    ) -> Child:
        words = ["--fd", str(door.fileno()), "--index", str(index)]
        for one in grpc_doors:
            words += ["--grpc-fd", str(one.fileno())]
        return self._child(
            f"web-{index}",
            "modelry.server.api.serve",
            environment,
            *words,
            keep_fds=[door.fileno(), *(one.fileno() for one in grpc_doors)],
        )
