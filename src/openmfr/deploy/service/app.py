"""Put together: the application that a server runs, and how it answers when something is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from openmfr.deploy.gallery import OtherNameError, RefusedError
from openmfr.deploy.service import routes
from openmfr.deploy.service.description import describe
from openmfr.deploy.service.guard import Gatekeeper
from openmfr.deploy.service.keys import KeyRing
from openmfr.deploy.service.observe import Observer
from openmfr.deploy.service.page_files import PageFiles
from openmfr.deploy.service.problems import Problem, of_status
from openmfr.deploy.service.rate import RateLimit
from openmfr.deploy.service.service import Service
from openmfr.errors import UserError

#: What a `UserError` is about → the kind of its problem; whatever else comes from the gallery.
_KIND_OF = {
    "identity": "invalid",
    "calibration": "not_calibrated",
    "condition": "not_calibrated",
    "fmr": "not_calibrated",
    "fpir": "not_calibrated",
}


def make_app(service: Service, *, keys: KeyRing | None = None, has_page: bool = False) -> FastAPI:
    """Make the application.

    Args:
        service: What it offers; it is closed when the application ends.
        keys: Who may use it; None: programs of this machine.
        has_page: Whether the page is served at "/", to anybody: it holds nothing, and asks for a
            key.

    Returns:
        An ASGI application.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = FastAPI(
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Errors of the framework must not show up but as ours.
        exception_handlers=_handlers(),
    )
    config = service.config
    rate = RateLimit(rate=config.rate, burst=config.burst)
    app.state.gatekeeper = Gatekeeper(service=service, keys=keys, rate=rate)
    app.add_middleware(Observer, metrics=service.metrics)
    for router in (routes.open_routes, routes.house, routes.faces):
        app.include_router(router)
    if service.gallery is not None:
        app.include_router(routes.people)
    app.openapi = _once(lambda: describe(app))  # type: ignore[method-assign]
    if has_page:
        app.mount("/", PageFiles(), name="page")
    return app


def problem_of(error: Exception) -> Problem:
    """Turn whatever a route may raise on purpose into a problem; other errors are bugs."""
    match error:
        case Problem():
            return error
        case RefusedError():
            return Problem("refused", "; ".join(error.reasons), reasons=error.reasons)
        case OtherNameError():
            return Problem("other_name")
        case RequestValidationError():
            errors = [_told(one) for one in error.errors()]
            return Problem("invalid", "; ".join(errors), errors=errors)
        case HTTPException():
            return of_status(error.status_code, error.headers)
        case UserError():
            if kind := _KIND_OF.get(error.where):
                return Problem(kind, str(error))
            return Problem("gallery_unavailable", retry_after=1)
    raise error


def _handlers() -> dict[int | type[Exception], Callable[[Request, Any], Any]]:
    async def answer(request: Request, error: Exception) -> Response:
        return problem_of(error).answer(request.state.request_id)

    return dict.fromkeys((HTTPException, RequestValidationError, UserError), answer)


def _told(fault: Any) -> str:
    """Say what is wrong with a field, without repeating what it held."""
    where = ".".join(str(part) for part in fault["loc"][1:])
    return f"{where}: {fault['msg']}"


def _once(make: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    made: list[dict[str, Any]] = []

    def get() -> dict[str, Any]:
        if not made:
            made.append(make())
        return made[0]

    return get
