"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DEFAULT_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real faces for tests: `OPENMFR_DATA`, or the default beside the repository."""
    folder = Path(os.environ.get("OPENMFR_DATA", DEFAULT_DATA))
    if folder.is_dir():
        return folder
    reason = f"no real faces at {folder}; set OPENMFR_DATA to their folder"
    if os.environ.get("OPENMFR_REQUIRE_DATA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def pytest_configure() -> None:
    """Give each test worker one thread: several that share two cores spin instead of working."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
