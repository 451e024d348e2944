"""Run the application: bind, say where, serve until told to stop, finish what was accepted."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from openmfr.deploy.service.guard import is_of_this_machine
from openmfr.errors import UserError

#: Connections that may wait to be accepted.
_BACKLOG: Final = 128
_LAST_PORT: Final = 65_535
#: Seconds that an idle connection is kept.
_KEEP_ALIVE: Final = 20


def check_exposure(host: str, *, has_keys: bool) -> None:
    """Refuse to listen where others can reach it, if anybody may use it.

    Args:
        host: Address or name to listen at.
        has_keys: Whether callers must show a key.

    Raises:
        UserError: If it would be open to all.
    """
    if has_keys or is_of_this_machine(host):
        return
    raise UserError(
        where="--host",
        found=f"{host}, an address that others can reach, and no API keys",
        allowed="127.0.0.1 without keys, any address with keys",
        next_step="openmfr key new keys.json --name NAME, then openmfr serve … --keys keys.json",
    )


def bind(host: str, port: int) -> socket.socket:
    """Take an address.

    Args:
        host: Address or name.
        port: 0 for any that is free.

    Returns:
        A socket that listens.

    Raises:
        UserError: If it is taken, or not this machine's.
    """
    try:
        if not 0 <= port <= _LAST_PORT:  # the system would take the rest of a division
            raise OverflowError(f"ports end at {_LAST_PORT}")
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(_BACKLOG)
        except BaseException:
            bound.close()
            raise
    except (OSError, OverflowError) as error:
        raise UserError(
            where="--host, --port",
            found=f"{host}, {port} ({getattr(error, 'strerror', None) or error})",
            allowed="an address of this machine and a free port",
            next_step="choose another port; 0 takes any that is free",
        ) from error
    return bound


def address_of(bound: socket.socket) -> str:
    """Write where a socket listens, as a URL."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(
    app: FastAPI, bound: socket.socket, *, patience: float, started: Callable[[], None]
) -> None:
    """Serve until SIGTERM or SIGINT; then refuse new requests and finish those accepted.

    Args:
        app: From `make_app`.
        bound: From `bind`.
        patience: Seconds that requests have to end after the signal.
        started: Called when it is ready.
    """
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(patience)),
    )
    # uvicorn raises the signal again when all is done; a stop that was asked for is no failure.
    before = {number: signal.signal(number, _ignore) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        _Server(config, started).run(sockets=[bound])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell()


def _ignore(_: int, __: FrameType | None) -> None:
    """A signal that was obeyed already."""
