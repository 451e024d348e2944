"""`openmfr VERB …`: find the verb, import its module alone, and turn mistakes into one clear line.

Each verb is a module of this package with a function `main`; its parameters become flags and its
docstring becomes the help. Nothing heavier than the standard library is imported before a verb is
known, so that `openmfr --help` answers at once.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openmfr.errors import EXIT_PREEMPTED, Preempted, UserError, full_disk_said, nearest
from openmfr.version import __version__

#: Verb → what goes in and what comes out; the order is the order of the work.
VERBS: dict[str, str] = {
    "demo": "make synthetic faces, train on them, evaluate, and write a report",
    "synth": "make identity-labelled synthetic faces → a store and its labels",
    "ingest": "photos → detected, aligned, packed faces: a store and its labels",
    "convert": "RecordIO, tars, folders ↔ a store; a checkpoint of arcface_torch → a checkpoint",
    "mask": "a store → face geometry, masks on faces: fit, render, preview, guide, lift, learn",
    "inspect": "say what a file or folder is; draw a contact sheet of a store",
    "plan": "a recipe → memory, traffic, steps and time, before it begins",
    "train": "a recipe, a store and labels → a run with checkpoints",
    "embed": "a checkpoint or an ONNX file, and a store → embeddings",
    "clean": "labels and embeddings → cleaned labels: pass, rounds, diff, plant, judge",
    "search": "networks: found by a search (run), or made to cost what they may (scale)",
    "reproduce": "a table of the paper → trainings, and its claims beside what was measured",
    "evaluate": "embeddings and a protocol → rates with intervals, and a report",
    "export": "a checkpoint → an ONNX file, float32 or int8, and its model card",
    "latency": "an ONNX file → time and memory, and whether limits hold",
    "gallery": "people who can be recognised: add, search, list, remove, export, copy",
    "serve": "a model and a gallery → a REST service and a page",
    "key": "who may use the service: new, list, remove",
}

#: Package that an installation may lack → the extra that brings it.
EXTRAS: dict[str, str] = {
    "torch": "train",
    "safetensors": "train",
    "tensorboard": "train",
    "matplotlib": "report",
    "numba": "mask",
    "scipy": "synth",
    "mediapipe": "face",
    "faiss": "ann",
    "onnxruntime": "runtime",
    "onnx": "export",
    "onnxscript": "export",
    "optuna": "search",
    "sqlalchemy": "search",
    "ray": "cluster",
    "cryptography": "gallery",
    **dict.fromkeys(
        ("fastapi", "starlette", "pydantic", "uvicorn", "python_multipart", "multipart"), "serve"
    ),
    "prometheus_client": "serve",
    "psycopg": "postgres",
    "openvino": "openvino",
}

#: Exit codes: the user's mistake, and a run stopped from the keyboard. A run that was asked to stop
#: by SIGTERM has `EXIT_PREEMPTED`.
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: The words after `openmfr`; those of the process by default.

    Returns:
        The exit code: 0, 2 for a mistake that the user can mend, 75 if asked to stop by SIGTERM,
        130 if interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _answer(words)
        if "TORCHELASTIC_RUN_ID" in os.environ:
            # Started by torchrun: all is done and written, and threads of the process group may
            # abort an interpreter that ends in the usual way.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        return code
    except BrokenPipeError:  # `openmfr inspect faces | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _answer(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        print(f"openmfr {__version__}")
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with _stop_on_sigterm(words[0]), full_disk_said(Path.cwd()):
            return _run(words[0], words[1:])
    except Preempted as stop:
        if os.environ.get("RANK", "0") == "0":  # the first one speaks for all
            print(f"openmfr {words[0]}: {stop}", file=sys.stderr)
        return EXIT_PREEMPTED
    except UserError as error:
        rank = f" (rank {os.environ['RANK']})" if "RANK" in os.environ else ""
        print(f"openmfr {words[0]}{rank}: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except (OSError, MemoryError, RuntimeError) as error:
        said = _mendable(error)
        if said is None:
            raise
        print(f"openmfr {words[0]}: {said}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted; give the same command again", file=sys.stderr)
        return EXIT_INTERRUPTED


@contextmanager
def _stop_on_sigterm(verb: str) -> Iterator[None]:
    """Let SIGTERM end a verb as Ctrl-C does, but with a code of its own.

    A training notes it instead, and stops at its next step; a service has its own way to end.
    """
    if verb == "serve" or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise Preempted("asked to stop (SIGTERM); give the same command again")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _run(verb: str, words: list[str]) -> int:
    if verb not in VERBS:
        raise UserError(
            where="verb", found=verb, allowed=", ".join(VERBS), next_step=nearest(verb, VERBS)
        )
    import tyro

    sys.path.append("")  # a user's recipe or network may lie in this folder
    module, prog = importlib.import_module(f"openmfr.cli.{verb}"), f"openmfr {verb}"
    try:
        if parts := getattr(module, "PARTS", None):
            part = _choose_part(verb, words, parts, example=module.EXAMPLE)
            module, prog = importlib.import_module(f"openmfr.cli.{verb}_{part}"), f"{prog} {part}"
            words = words[1:]
        tyro.cli(module.main, prog=prog, args=[_local(word) for word in words])
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise UserError(
            where=f"openmfr {verb}",
            found=f"no Python package {package}",
            allowed=f"an installation with the extra {EXTRAS[package]}",
            next_step=f'pip install "openmfr[{EXTRAS[package]}]"',
        ) from error
    return 0


def _local(word: str) -> str:
    """What a command reads of a store in S3 storage: its folder in the cache."""
    from openmfr.data.remote import is_remote

    if not is_remote(word):
        return word
    from openmfr.data.store import Store

    return str(Store(word).path)


def _choose_part(verb: str, words: list[str], parts: dict[str, str], *, example: str) -> str:
    """Find the part that is meant of a verb that has several; without one, show them and leave."""
    if not words or words[0] in ("-h", "--help"):
        width = max(10, *map(len, parts))
        listed = "\n".join(f"  {part:<{width}} {summary}" for part, summary in parts.items())
        print(
            f"{VERBS[verb]}\n\n"
            f"usage: openmfr {verb} WHAT [ARGUMENTS]      openmfr {verb} WHAT --help explains it.\n"
            f"\n{listed}\n\nExample: {example}"
        )
        raise SystemExit(0)
    if words[0] not in parts:
        raise UserError(
            where=f"openmfr {verb} WHAT",
            found=words[0],
            allowed=", ".join(parts),
            next_step=nearest(words[0], parts),
        )
    return words[0]


def _mendable(error: Exception) -> str | None:
    """Say what a user can do about an error of the system; None if it is a bug.

    An allocation fails in Python's own words, numpy's, or torch's on a CPU or a GPU.
    """
    if isinstance(error, OSError):
        if isinstance(error, BrokenPipeError) or not error.filename:
            return None
        return f"{error.filename}: {error.strerror}; check the path"
    is_torchs = type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)
    if not (isinstance(error, MemoryError) or is_torchs):
        return None
    return (
        f"not enough memory ({str(error).splitlines()[0]}); run `openmfr plan` with the recipe and "
        "the size of the data: it says what fits, and on how many ranks"
    )


def _overview() -> str:
    verbs = "\n".join(f"  {verb:<10} {summary}" for verb, summary in VERBS.items())
    return f"""openmfr {__version__}: masked face recognition, from photos to a recogniser.

usage: openmfr VERB [ARGUMENTS]      openmfr VERB --help explains a verb, with an example.

{verbs}

Start with:  openmfr demo
Every verb that works long shows its progress and goes on where it stopped when it is repeated.

Exit codes:  0 done, 2 something to mend (the message says what), {EXIT_PREEMPTED} asked to stop by
SIGTERM and 130 by Ctrl-C: give the same command again."""


if __name__ == "__main__":
    sys.exit(main())
