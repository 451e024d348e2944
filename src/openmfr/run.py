"""What a long piece of work shows and leaves behind: progress, and a run's folder.

A run's folder belongs to one configuration. The same command in the same folder goes on where it
stopped; another configuration there is an error that names what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


@contextmanager
def progress(what: str, *, total: int, unit: str, done: int = 0) -> Iterator[Callable[..., None]]:
    """Show a bar with rate and time left; quiet when standard error is no terminal.

    Args:
        what: What is going on, a verb: "embed".
        total: How many units there are.
        unit: What is counted: "images".
        done: How many an earlier run has done already.

    Yields:
        `advance(count, note="")`: call it after each piece of work; `note` is shown behind the bar.
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
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total, completed=done, note="")

        def advance(count: int, note: str = "") -> None:
            bar.update(task, advance=count, note=note)

        yield advance


class _RateColumn(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text(f"{rate:,.0f} {self._unit}/s" if rate else f"– {self._unit}/s")
