"""What a long piece of work shows and leaves behind: progress, and a run's folder.

A run's folder belongs to one configuration. The same command in the same folder goes on where it
stopped; another configuration there is an error that names what differs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    def log_to_file(self, *, is_first: bool = True) -> Iterator[None]:
        """Append what openmfr logs to the run's `log.txt` while the block runs.

        Args:
            is_first: Whether this is the rank that writes; nothing is done on the others.
        """
        if not is_first:
            yield
            return
        handler = logging.FileHandler(self.path / LOG_FILE, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        root = logging.getLogger("openmfr")
        root.setLevel(logging.INFO)
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)
            handler.close()

    def add_metrics(self, row: Mapping[str, float]) -> None:
        """Append one row, which has a `step`, to the metrics."""
        with (self.path / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(row)) + "\n")

    def metrics(self) -> list[dict[str, float]]:
        """All rows so far."""
        return run_metrics(self.path)

    def rewind_metrics(self, step: int) -> None:
        """Drop the rows after a step: a resumed run measures them again."""
        rows = [json.dumps(row) for row in self.metrics() if row["step"] <= step]
        write_text(self.path / METRICS_FILE, "".join(f"{row}\n" for row in rows))


def run_metrics(path: Path) -> list[dict[str, float]]:
    """Read the metrics of a run's folder; a last line that a kill cut short is left out."""
    file = path / METRICS_FILE
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


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
