"""What stands before every guarded route: who asks, how often, how much, and for how long.

A route class and no middleware, so that a route that is added later is guarded unless somebody says
otherwise, and so that it happens before a byte of the body is read. The order is that of cost: a
stranger costs a hash, a caller who is too quick a subtraction, a full house a comparison.
"""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi.routing import APIRoute
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive

from openmfr.deploy.service.keys import KeyRing
from openmfr.deploy.service.problems import Problem
from openmfr.deploy.service.rate import RateLimit
from openmfr.deploy.service.service import Service

#: A form has two photos and a few short fields.
_MAX_FILES, _MAX_FIELDS, _MAX_FIELD_BYTES = 2, 16, 4096

#: Longer numbers are not even read.
_MAX_DIGITS = 18

#: Who asks, where there are no keys.
_ANYBODY = "anybody"


@dataclass(frozen=True, kw_only=True)
class Gatekeeper:
    """What the guard needs to know; stands in the application's state.

    Attributes:
        service: Has the door and the limits.
        keys: Who may come in; None: anybody who calls from this machine.
        rate: How often.
    """

    service: Service
    keys: KeyRing | None
    rate: RateLimit

    def admit(self, request: Request) -> None:
        """Let a caller in or not.

        Raises:
            Problem: "foreign_page", "no_key" or "too_often".
        """
        if self.keys is None:
            _check_origin(request)
            caller = _ANYBODY
        else:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            key = self.keys.find(token.strip()) if scheme.lower() == "bearer" else None
            if key is None:
                raise Problem("no_key")
            caller = key.number
        if wait := self.rate.take(caller):
            raise Problem("too_often", retry_after=wait)


class OpenRoute(APIRoute):
    """A route that anybody may call: nothing of it may cost much, or tell anything."""


class GuardedRoute(APIRoute):
    """A route that only who is admitted may call."""

    #: Whether a call takes one of the places.
    takes_place = True

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Put the guard before the route."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            gatekeeper: Gatekeeper = request.app.state.gatekeeper
            gatekeeper.admit(request)
            service = gatekeeper.service
            if not self.takes_place:
                return await handle(request)
            body = Body(request.receive, limit=service.config.max_body)
            body.check_length(request.headers.get("Content-Length"))
            with service.door.place():
                try:
                    async with asyncio.timeout(service.config.timeout_s) as patience:
                        return await handle(FormRequest(request.scope, body.receive))
                except TimeoutError:
                    if not patience.expired():
                        raise
                    raise Problem("timed_out" if body.is_complete else "slow_upload") from None

        return guarded


class HouseRoute(GuardedRoute):
    """A guarded route that answers also when all places are taken: what watchers ask."""

    takes_place = False


class Body:
    """The body of a request, as long as it is not too long.

    Args:
        receive: Where it comes from.
        limit: In bytes.

    Attributes:
        is_complete: Whether all of it has come.
    """

    def __init__(self, receive: Receive, *, limit: int) -> None:
        self._receive, self._limit, self._seen = receive, limit, 0
        self.is_complete = False

    def check_length(self, declared: str | None) -> None:
        """Refuse a body that says itself that it is too long.

        Raises:
            Problem: "body_too_large".
        """
        digits = (declared or "").lstrip("0")
        if digits.isdecimal() and (len(digits) > _MAX_DIGITS or int(digits) > self._limit):
            raise self._too_large()

    async def receive(self) -> Message:
        """Receive the next part.

        Raises:
            Problem: "body_too_large", whatever the header said, if it had said anything.
        """
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._limit:
                raise self._too_large()
            self.is_complete = not message.get("more_body", False)
        return message

    def _too_large(self) -> Problem:
        return Problem("body_too_large", f"at most {self._limit:,} bytes are taken")


class FormRequest(Request):
    """A request whose photos stay in memory: they are never written to a temporary file."""

    async def form(self, **_: Any) -> FormData:  # type: ignore[override]
        """Read a form, multipart/form-data.

        Raises:
            Problem: "malformed", if it is none, or has more parts than any of ours.
        """
        if self._form is None:
            kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if kind != "multipart/form-data":
                raise Problem("malformed", "a form of multipart/form-data is expected")
            parser = _InMemoryParser(
                self.headers,
                self.stream(),
                max_files=_MAX_FILES,
                max_fields=_MAX_FIELDS,
                max_part_size=_MAX_FIELD_BYTES,
            )
            try:
                self._form = await parser.parse()
            except MultiPartException as error:
                raise Problem("malformed", error.message) from error
        return self._form


class _InMemoryParser(MultiPartParser):
    spool_max_size = sys.maxsize


def is_of_this_machine(host: str) -> bool:
    """Whether a name or address can only mean this machine itself.

    Example:
        >>> is_of_this_machine("127.0.0.1"), is_of_this_machine("0.0.0.0")
        (True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_origin(request: Request) -> None:
    """Refuse what a web page of somebody else makes a browser of this machine ask.

    A browser lets any page send forms to 127.0.0.1, and lets a page whose name was pointed there
    read the answers too. Programs send no Origin; our own page sends our own.

    Raises:
        Problem: "foreign_page".
    """
    host = request.headers.get("Host", "")
    origin = request.headers.get("Origin")
    try:
        is_own_name = is_of_this_machine(urlsplit(f"//{host}").hostname or "")
        is_own_page = origin is None or urlsplit(origin).netloc == host
    except ValueError:
        is_own_name = is_own_page = False
    if not (is_own_name and is_own_page):
        raise Problem("foreign_page")
