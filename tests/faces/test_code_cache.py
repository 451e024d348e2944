"""Compiled code on disk: used again, and never older than the sources that it was made of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openmfr.faces.code_cache import cache_folder, fingerprint_imports

ENTRY = """
from openmfr.faces.code_cache import compiled
from dresses.inner import (
    shift,
)

@compiled
def entry(x):
    return shift(x) + 1

"""
INNER = """
from openmfr.faces.code_cache import compiled
from dresses import amounts

STEP = amounts.STEP

@compiled
def shift(x):
    return x + STEP
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "dresses"
    folder.mkdir()
    texts = {"__init__": "", "entry": ENTRY, "inner": INNER, "amounts": "STEP = 10", "other": ""}
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


def run(package: Path, **environment: str) -> list[int]:
    """Call `entry(1)` in a process of its own; return the result and how often it was loaded."""
    done = subprocess.run(
        [sys.executable, "-c", "from dresses.entry import entry; import dresses.entry as e\n"
         "print(entry(1), sum(e.entry.stats.cache_hits.values()))"],
        cwd=package.parent, env={**os.environ, **environment}, text=True, timeout=120,
        capture_output=True, check=True,
    )  # fmt: skip
    return [int(word) for word in done.stdout.split()]


def test_code_is_used_again_until_anything_it_calls_is_edited(package: Path) -> None:
    assert run(package) == [12, 0]
    assert run(package) == [12, 1]
    (package / "amounts.py").write_text("STEP = 20", encoding="utf-8")
    assert run(package) == [22, 0]
    assert len(list((package / "__pycache__").glob("entry-*"))) == 1  # the earlier is deleted


def test_a_folder_that_the_user_names_is_taken(package: Path) -> None:
    elsewhere = package.parent / "cache"
    assert run(package, NUMBA_CACHE_DIR=str(elsewhere)) == [12, 0]
    prints = {fingerprint_imports(package / f"{name}.py") for name in ("entry", "inner")}
    assert {path.name[-16:] for path in elsewhere.iterdir()} >= prints
    assert not list((package / "__pycache__").glob("entry-*"))


def test_what_is_not_imported_does_not_count(package: Path) -> None:
    before = cache_folder(package / "entry.py")
    (package / "other.py").write_text("STEP = 1", encoding="utf-8")
    assert cache_folder(package / "entry.py") == before


def test_modules_that_import_each_other_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "__init__.py").touch()
    for one, other in (("a", "b"), ("b", "a")):
        text = f"import loop.{other}\n"
        (tmp_path / "loop" / f"{one}.py").write_text(text, encoding="utf-8")
    prints = {fingerprint_imports(tmp_path / "loop" / f"{name}.py") for name in "ab"}
    assert len(prints) == 1


def test_where_nothing_can_be_written_there_is_no_folder(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "__pycache__").write_text("a file, no folder", encoding="utf-8")
    blocked = package.parent / "blocked"
    blocked.write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert cache_folder(package / "entry.py") is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(package.parent / "home"))
    folder = cache_folder(package / "entry.py")
    assert folder is not None
    assert folder.parent == package.parent / "home" / "openmfr"
