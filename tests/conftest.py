"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

#: Blocks torch for whoever imports it; looking for doctests imports everything.
collect_ignore = ["without_torch.py"]
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
