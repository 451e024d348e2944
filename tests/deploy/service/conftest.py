"""A service in this process, and a client that speaks to it without a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from deploy.service.house import House
from starlette.testclient import TestClient

from openmfr.deploy.service import KeyRing, ServiceConfig, make_app


class Open:
    """Opens services; all are closed after the test.

    Attributes:
        house: What they are made of.
    """

    def __init__(self, house: House, stack: ExitStack) -> None:
        self.house, self._stack = house, stack

    def __call__(
        self,
        config: ServiceConfig | None = None,
        *,
        keys: KeyRing | None = None,
        has_page: bool = False,
        **choices: Any,
    ) -> TestClient:
        app = make_app(self.house.service(config, **choices), keys=keys, has_page=has_page)
        client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
        return self._stack.enter_context(client)


@pytest.fixture
def open_service(tmp_path: Path) -> Iterator[Open]:
    with ExitStack() as stack:
        yield Open(House(tmp_path), stack)


@pytest.fixture
def client(open_service: Open) -> TestClient:
    """A service with a gallery, without keys or calibration."""
    return open_service()
