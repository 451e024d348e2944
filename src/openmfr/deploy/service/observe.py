"""The outermost layer: a number for each request, one line in the log, and no error unanswered.

A line has the request's number, the route's template, the status and the time. Paths, names of
photos and of people, scores, and the texts of errors, which may hold names, stay out of it.
"""

from __future__ import annotations

import logging
import time
import traceback
import uuid
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openmfr.deploy.service.metrics import Metrics
from openmfr.deploy.service.problems import Problem

REQUEST_ID: Final = "X-Request-Id"

#: Nothing that a browser could do with an answer is wanted but showing it.
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

#: Most causes, and most frames, of an error in the log.
_CAUSES: Final = 8
_FRAMES: Final = 12

_log = logging.getLogger(__name__)


class Observer:
    """ASGI middleware.

    Args:
        app: What it surrounds.
        metrics: Are told of every answer.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, start = uuid.uuid4().hex, time.perf_counter()
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception as error:
            _log.error("%s %s", request_id, _told(error))
            if status:  # half an answer is out: the server cuts the connection
                raise RuntimeError("failed while answering") from None
            await Problem("internal").answer(request_id)(scope, receive, send_noted)
        finally:
            self._note(scope, request_id, status, time.perf_counter() - start)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = route_of(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        _log.info("%s %s %s %d %.0f ms", request_id, method, route, status, 1000 * seconds)
        self._metrics.count(method=method, route=route, status=status, seconds=seconds)


def route_of(scope: Scope) -> str:
    """Name the route that answered by its template: the path itself holds names."""
    return str(getattr(scope.get("route"), "path", "")) or "unknown"


def _told(error: BaseException) -> str:
    """Say where an error came from, without its text, which may name people."""
    kinds: list[str] = []
    one: BaseException | None = error
    while one is not None and len(kinds) < _CAUSES:
        kinds.append(type(one).__name__)
        one = one.__cause__
    frames = "".join(traceback.format_tb(error.__traceback__)[-_FRAMES:])
    return f"{' from '.join(kinds)}\n{frames}"
