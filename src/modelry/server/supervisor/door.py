"""The listening sockets: bound once by the supervisor, so that connections wait while a web process is replaced."""

from __future__ import annotations

import errno
import http.client
import ipaddress
import socket
import ssl
import time

from modelry.core.errors import InvalidSetting, PortTaken
from modelry.core.settings import Settings

_BACKLOG = 2048
#: Addresses that mean "all", and where this machine finds itself under them.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
#: Pause between two attempts while an earlier service's web processes are leaving.
_PAUSE_S = 0.1


def check_address(settings: Settings) -> str | None:
    """A warning for people, or None; raises `InvalidSetting` where keys would travel in the clear unasked."""
    if settings.tls_cert or is_loopback(settings.host):
        return None
    if not settings.insecure_http:
        raise InvalidSetting(
            name="MODELRY_HOST",
            value=settings.host,
            reason="beyond this machine, plain HTTP shows every key and every input to the network",
            remedy="Set MODELRY_TLS_CERT and MODELRY_TLS_KEY, or MODELRY_INSECURE_HTTP=true "
            "behind a proxy that does TLS.",
        )
    return (
        f"Plain HTTP on {settings.host}: keys and inputs can be read on the network. "
        "Put a proxy with TLS in front, or set MODELRY_TLS_CERT and MODELRY_TLS_KEY."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int, patience_s: float = 0.0) -> socket.socket:
    """The socket, listening; raises `PortTaken`. With patience, a port that is in use may yet become free."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return _listen(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                reason = error.strerror or str(error)
                raise InvalidSetting(
                    name="MODELRY_HOST", value=f"{host}:{port}", reason=reason.lower()
                ) from error
            if time.monotonic() >= deadline:
                raise PortTaken(host=host, port=port) from error
        time.sleep(_PAUSE_S)


def share(host: str, port: int, count: int, patience_s: float = 0.0) -> list[socket.socket]:
    """So many sockets that listen on one port: the kernel deals new connections out between them.

    Connections that gRPC's clients keep for hours are then spread evenly, and wait where a process is replaced. Raises
    `PortTaken`, also where another service of this user listens there in the same way.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return _share(host, port, count)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                reason = error.strerror or str(error)
                raise InvalidSetting(
                    name="MODELRY_GRPC_PORT", value=f"{host}:{port}", reason=reason.lower()
                ) from error
            if time.monotonic() >= deadline:
                remedy = "Choose another with MODELRY_GRPC_PORT, or do without: MODELRY_GRPC=false."
                raise PortTaken(host=host, port=port, remedy=remedy) from error
        time.sleep(_PAUSE_S)


def grpc_target(host: str, port: int) -> str:
    """The address as programs on this machine give it to gRPC."""
    address = _EVERYWHERE.get(host, host)
    return f"{f'[{address}]' if ':' in address else address}:{port}"


def local_url(settings: Settings, port: int) -> str:
    """The address for programs on this machine."""
    host = _EVERYWHERE.get(settings.host, settings.host)
    return f"{settings.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def answers(settings: Settings, port: int, timeout_s: float) -> bool:
    """Whether `/health` says that the service is there."""
    host = _EVERYWHERE.get(settings.host, settings.host)
    if settings.tls_cert:
        context = ssl.create_default_context()
        # It is our own socket; the certificate's name is for those who come from outside.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=timeout_s, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    door = socket.socket(family, kind, protocol)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        door.bind(address)
        door.listen(_BACKLOG)
    except BaseException:
        door.close()
        raise
    return door


def _share(host: str, port: int, count: int) -> list[socket.socket]:
    # Asked for alone, the port is refused where anybody listens there; asked for shared, only where a stranger does.
    _listen(host, port).close()
    doors: list[socket.socket] = []
    try:
        for _ in range(count):
            doors.append(_listen(host, port, shared=True))
            port = doors[0].getsockname()[1]
    except BaseException:
        for door in doors:
            door.close()
        raise
    return doors
