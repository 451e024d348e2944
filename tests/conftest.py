"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

#: Blocks torch for whoever imports it; looking for doctests imports everything.
collect_ignore = ["without_torch.py"]
DEFAULT_DATA = Path(__file__).parents[2] / "shared" / "data"
_NO_DATA = "no real faces at {}; set OPENMFR_DATA to their folder"


@pytest.fixture(scope="session")
def real_data_if_any() -> Path | None:
    """Folder of real faces, `OPENMFR_DATA` or the default beside the repository; None without."""
    folder = Path(os.environ.get("OPENMFR_DATA", DEFAULT_DATA))
    if folder.is_dir():
        return folder
    if os.environ.get("OPENMFR_REQUIRE_DATA") == "1":
        pytest.fail(_NO_DATA.format(folder))
    return None


@pytest.fixture(scope="session")
def real_data(real_data_if_any: Path | None) -> Path:
    """Folder of real faces, for tests that need some."""
    if real_data_if_any is None:
        pytest.skip(_NO_DATA.format(os.environ.get("OPENMFR_DATA", DEFAULT_DATA)))
    return real_data_if_any


def pytest_configure() -> None:
    """Give each test worker one thread, as several on two cores spin; set up hypothesis."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # No test depends on timing, and a change lands or fails by what it does, not by a draw.
    settings.register_profile(
        "openmfr",
        deadline=None,
        derandomize="CI" in os.environ,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("openmfr")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest: at the end it would keep all other cores waiting."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of our own, with pgvector: the PyPI package pgserver carries both."""
    pytest.importorskip("psycopg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pgserver")
        server = pgserver.get_server(tmp_path_factory.mktemp("pg"))
    yield server.get_uri()
    server.cleanup()
