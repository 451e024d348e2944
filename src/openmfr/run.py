"""What a long piece of work shows and leaves behind: progress, and a run's folder.

A run's folder belongs to one configuration. The same command in the same folder goes on where it
stopped; another configuration there is an error that names what differs.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from openmfr.errors import Preempted, UserError
from openmfr.files import (
    check_format_version,
    check_same_settings,
    prepare_folder,
    read_json,
    write_json,
    write_text,
)

FORMAT_VERSION = 1
RUN_FILE, METRICS_FILE, LOG_FILE = "run.json", "metrics.jsonl", "log.txt"
EVENTS_FILE: Final = "log.jsonl"


class Run:
    """A run's folder: its configuration, its log and its metrics.

    Args:
        path: The folder; nothing is written before `begin`.
        settings: Everything that determines the result, nested, as JSON values.
        about: What a person may ask later: versions, paths; not compared.

    Raises:
        UserError: If a run with other settings, or something else, stands there; each setting that
            differs is named.
    """

    def __init__(
        self, path: Path, *, settings: Mapping[str, Any], about: Mapping[str, str]
    ) -> None:
        self.path = path
        self.settings = settings
        self.about = about
        prepare_folder(path, mark=RUN_FILE, what="run")
        if (path / RUN_FILE).exists():
            check_same_settings(path, _flat(run_settings(path)), _flat(settings))

    def begin(self) -> None:
        """Make the folder, unless the run goes on in it."""
        if not (self.path / RUN_FILE).exists():
            content = {
                "format_version": FORMAT_VERSION,
                "kind": "run",
                "settings": self.settings,
                "about": self.about,
            }
            write_json(self.path / RUN_FILE, content)

    @contextmanager
    def log_to_file(self, *, is_first: bool = True, rank: int = 0) -> Iterator[None]:
        """Append what openmfr logs to the run's `log.txt` and `log.jsonl` while the block runs.

        What ends the block too early is logged as well. A run that goes on appends: nothing that
        happened is taken back, and a "resume" event says from which step on it is told anew.

        Args:
            is_first: Whether this is the rank that writes the run's folder. Of the others, only
                warnings are kept, in a file of their own: `log-rank-3.jsonl`.
            rank: Which one this is, for the records.
        """
        root = logging.getLogger("openmfr")
        if is_first:
            root.setLevel(logging.INFO)
        handlers = self._log_files(is_first=is_first, rank=rank)
        for handler in handlers:
            root.addHandler(handler)
        try:
            yield
        except BaseException as error:
            _log_end(handlers, error)
            raise
        finally:
            for handler in handlers:
                root.removeHandler(handler)

    def _log_files(self, *, is_first: bool, rank: int) -> list[_LineHandler]:
        if not is_first:
            if not rank:  # which one of them is not known
                return []
            own = _LineHandler(self.path / f"log-rank-{rank}.jsonl", _EventFormatter(rank))
            own.setLevel(logging.WARNING)
            return [own]
        text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
        return [
            _LineHandler(self.path / LOG_FILE, text),
            _LineHandler(self.path / EVENTS_FILE, _EventFormatter(rank)),
        ]

    def add_metrics(self, row: Mapping[str, float]) -> None:
        """Append one row, which has a `step`, to the metrics."""
        _append_line(self.path / METRICS_FILE, json.dumps(dict(row)))

    def metrics(self) -> list[dict[str, float]]:
        """All rows so far."""
        return run_metrics(self.path)

    def rewind_metrics(self, step: int) -> None:
        """Drop the rows after a step: a resumed run measures them again."""
        rows = [json.dumps(row) for row in self.metrics() if row["step"] <= step]
        write_text(self.path / METRICS_FILE, "".join(f"{row}\n" for row in rows))


def event(kind: str, *, step: int | None = None) -> dict[str, Any]:
    """What a log record says to programs that read `log.jsonl`, for the `extra` of a logger's call.

    Args:
        kind: What happened, one word: "checkpoint".
        step: Optimizer steps done, where that is known.
    """
    return {"event": kind} if step is None else {"event": kind, "step": step}


class _EventFormatter(logging.Formatter):
    """One JSON object for each record; what a record does not know is left out."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "rank": self._rank,
            "event": getattr(record, "event", None),
            "step": getattr(record, "step", None),
            "message": record.getMessage(),
        }
        known = {name: value for name, value in fields.items() if value is not None}
        return json.dumps(known, ensure_ascii=False)


class _LineHandler(logging.Handler):
    """Appends each record to a file at once; a full disk is the caller's error, not a note."""

    def __init__(self, path: Path, formatter: logging.Formatter) -> None:
        super().__init__()
        self._path = path
        self.setFormatter(formatter)
        _cut_torn_line(path)

    def emit(self, record: logging.LogRecord) -> None:
        _append_line(self._path, self.format(record).replace("\n", " | "))


def _log_end(handlers: list[_LineHandler], error: BaseException) -> None:
    """Log what ended a run; in its files alone, as the command line says it to the user."""
    kind = {Preempted: "preempted", KeyboardInterrupt: "interrupted"}.get(type(error), "error")
    level = logging.ERROR if kind == "error" else logging.WARNING
    is_keyboard = isinstance(error, KeyboardInterrupt)
    text = "interrupted from the keyboard" if is_keyboard else str(error) or type(error).__name__
    record = logging.LogRecord(__name__, level, __file__, 0, text, None, None)
    record.__dict__.update(event(kind))
    for handler in handlers:
        with suppress(OSError):  # the disk may be full: the error itself matters more
            handler.handle(record)


def _append_line(path: Path, line: str) -> None:
    """Append a line whole or, where the disk is full, not at all."""
    content = f"{line}\n".encode()
    with path.open("ab", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            while content:
                content = content[file.write(content) :]
        except OSError as error:
            with suppress(OSError):
                file.truncate(size)
            error.filename = error.filename or str(path)
            raise


def _cut_torn_line(path: Path) -> None:
    """Drop what a kill left of a last line, so that every line of the file can be read."""
    if not path.is_file():
        return
    with path.open("rb+") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def run_metrics(path: Path) -> list[dict[str, float]]:
    """Read the metrics of a run's folder; a last line that a kill cut short is left out.

    Raises:
        UserError: If another line is no JSON object.
    """
    file = path / METRICS_FILE
    rows: list[dict[str, float]] = []
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise UserError(
                where=f"{file}, line {number}",
                found="something that is no JSON object",
                allowed="a row of metrics",
                next_step="take the line out",
            )
        rows.append(row)
    return rows


def run_settings(path: Path) -> dict[str, Any]:
    """Read the settings of a run's folder.

    Raises:
        UserError: If it holds no run.
    """
    content = read_json(path / RUN_FILE, what="run", required=("settings",))
    check_format_version(content, path=path / RUN_FILE, supported=FORMAT_VERSION)
    settings: dict[str, Any] = content["settings"]
    return settings


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name nested settings by dotted paths, so that an error names the one that differs."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


@contextmanager
def progress(
    what: str, *, total: int, unit: str, done: int = 0, is_shown: bool = True
) -> Iterator[Callable[..., None]]:
    """Show a bar with rate and time left; quiet when standard error is no terminal.

    Args:
        what: What is going on, a verb: "embed".
        total: How many units there are.
        unit: What is counted: "images".
        done: How many an earlier run has done already.
        is_shown: Whether to show it at all: one of several ranks does.

    Yields:
        `advance(count, note="")`: call it after each piece of work; a `note` is shown behind the
            bar until the next one.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not (is_shown and console.is_terminal)) as bar:
        task = bar.add_task(what, total=total, completed=done, note="")

        def advance(count: int, note: str = "") -> None:
            bar.update(task, advance=count)
            if note:
                bar.update(task, note=note)

        yield advance


class _RateColumn(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text(f"{rate:,.0f} {self._unit}/s" if rate else f"– {self._unit}/s")
