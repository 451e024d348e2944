"""Code compiled by numba, kept on disk so that an edit never leaves older code in use.

Numba looks at one file alone: code is compiled anew when the file of the function that was called
has changed, not when the change is in another file that it calls. Our functions are spread over
files, so each keeps its code in a folder named after its file and all that this imports.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import shutil
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numba

_LENGTH: Final = 16
_one_at_a_time: Final = Lock()


def compiled(function: Callable[..., Any], *, fastmath: Collection[str] = ()) -> Any:
    """Compile with numba, and keep the machine code on disk wherever that may be written.

    That is a folder of `NUMBA_CACHE_DIR` if it is set, beside the source, or in the user's cache
    folder. An edit in the function's file, or in any that this imports, compiles anew.

    Args:
        function: To compile.
        fastmath: What LLVM may do against the rules of rounding, in its words.
    """
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": set(fastmath),
    }
    source = Path(inspect.getfile(function))
    config: Any = numba.config
    with _one_at_a_time:
        usual = config.CACHE_DIR
        parent = Path(usual) if usual else None
        folder = cache_folder(source, parent=parent) if source.is_file() else None
        if folder is None:
            return numba.njit(**options)(function)
        # Numba asks where to keep the code when the function is decorated, not when it compiles.
        config.CACHE_DIR = str(folder)
        try:
            return numba.njit(cache=True, **options)(function)
        finally:
            config.CACHE_DIR = usual


def cache_folder(source: Path, *, parent: Path | None = None) -> Path | None:
    """Find or make the folder for the compiled code of a file.

    In the source's `__pycache__`, where folders of its earlier texts are deleted, or else in the
    user's cache folder.

    Args:
        source: A module of a package.
        parent: Where to make it instead.

    Returns:
        The folder, or None where nothing can be written.
    """
    name = f"{source.stem}-{fingerprint_imports(source)}"
    beside = source.parent / "__pycache__"
    for place in (parent,) if parent else (beside, _user_cache()):
        if place is None:
            continue
        folder = place / name
        is_new = not folder.is_dir()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if not os.access(folder, os.W_OK):
            continue
        if is_new and place == beside:
            _delete_earlier(folder, source.stem)
        return folder
    return None


def fingerprint_imports(source: Path) -> str:
    """Identify the text of a module and of all modules of its package that it imports, at last.

    Args:
        source: A module of a package whose imports are absolute.

    Returns:
        16 hexadecimal digits.
    """
    top = _top(source)
    digest, seen, waiting = hashlib.sha256(), set[Path](), [source.resolve()]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += _imported(path, top)
    for path in sorted(seen):
        digest.update(path.relative_to(top.parent).as_posix().encode() + _digest(path))
    return digest.hexdigest()[:_LENGTH]


def _top(source: Path) -> Path:
    """Folder of the outermost package that holds a module."""
    folder = source.resolve().parent
    while (folder.parent / "__init__.py").exists():
        folder = folder.parent
    return folder


@cache
def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


@cache
def _imported(path: Path, top: Path) -> tuple[Path, ...]:
    """Files of the modules of its own package that a file imports."""
    # By pattern: to parse the sources would take longer than all the rest of an import.
    pattern = rf"^\s*(?:from|import)\s+({top.name}[\w.]*)(?:\s+import\s+(\([^)]*\)|.*))?"
    found = []
    for module, names in re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE):
        parts = [module, *(f"{module}.{name}" for name in re.findall(r"\w+", names))]
        for part in parts:
            place = top.parent.joinpath(*part.split("."))
            files = (place.with_name(place.name + ".py"), place / "__init__.py")
            found += [file for file in files if file.is_file()]
    return tuple(found)


def _user_cache() -> Path | None:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "openmfr"
    except RuntimeError:  # no home
        return None


def _delete_earlier(folder: Path, stem: str) -> None:
    """Delete the folders of a file's earlier texts; who still reads one compiles anew."""
    for other in folder.parent.glob(f"{stem}-{'?' * _LENGTH}"):
        if other != folder and other.is_dir():
            shutil.rmtree(other, ignore_errors=True)
