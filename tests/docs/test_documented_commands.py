"""What the documentation tells a user to type works when it is typed.

All pages run in one folder: the tutorial first, then the others by name, because a how-to page goes
on where the tutorial ended. A bash or python block is run; one with a title is a file that the user
saves under that name; `<!-- not run: reason -->` in the line above a block exempts it, unless the
reason is a set of faces that is there (`GIVEN`). What is not run is still read: its verbs, flags,
make targets and scripts must exist. (The scripts that a page
includes from examples/ have tests of their own.)
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from openmfr.cli.main import VERBS

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")],
    key=lambda page: (page.name != "tutorial.md", page),
)
#: Sets that blocks wait for: the reason, their folder where a block runs, and among the real faces.
GIVEN = {"needs LFW": ("lfw", "lfw-112")}
RUN = {"bash": ["bash", "-euo", "pipefail"], "python": [sys.executable]}

BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?"
    r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page, and where it stands."""

    where: str
    language: str
    title: str | None
    reason: str | None
    text: str

    @property
    def is_included(self) -> bool:
        """Whether the page takes the text from a file of the repository."""
        return self.text.startswith("--8<--")

    def is_to_run(self, folder: Path) -> bool:
        """Whether it is to be run, or saved, in a folder that may have sets of faces."""
        needed = GIVEN.get(self.reason or "")
        is_exempt = self.reason and not (needed and (folder / needed[0]).exists())
        return not (is_exempt or self.is_included) and bool(self.title or self.language in RUN)

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a bash block."""
        lines = self.text.replace("\\\n", " ").splitlines()
        commands = (shlex.split(line, comments=True) for line in lines)
        return [words for words in commands if words]


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        yield Block(
            where=f"{page.relative_to(ROOT)}, line {line}",
            language=match["language"],
            title=match["title"],
            reason=match["reason"],
            text=match["text"],
        )


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


@cache
def flags_of(*verb: str) -> frozenset[str]:
    """The flags that the help of a verb, or of one of its parts, lists."""
    shown = subprocess.run(
        [sys.executable, "-m", "openmfr", *verb, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    return frozenset(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", shown.stdout))


def check_openmfr(words: list[str], where: str) -> None:
    """Assert that a verb and its flags exist; words in capitals stand for the user's own."""
    if words[0] in ("--help", "--version") or words[0].isupper():
        return
    assert words[0] in VERBS, f"{where}: no verb {words[0]}"
    parts = getattr(importlib.import_module(f"openmfr.cli.{words[0]}"), "PARTS", {})
    verb = words[:2] if len(words) > 1 and parts else words[:1]
    assert len(verb) == 1 or verb[1] in parts, f"{where}: openmfr {words[0]} has no {verb[1]}"
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    unknown = flags - flags_of(*verb)
    assert not unknown, f"{where}: openmfr {' '.join(verb)} has no {', '.join(unknown)}"


def test_the_tutorial_comes_first_and_has_something_to_run() -> None:
    assert PAGES[0].name == "tutorial.md"
    assert any(block.language == "bash" and not block.reason for block in blocks_of(PAGES[0]))


def test_no_block_hides_from_being_run() -> None:
    """A fence that is indented, or in a language that is nearly bash, would never be looked at."""
    for page in PAGES:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
            hidden = re.match(r"\s+```\w|```(sh|shell|console|py)\b", line)
            assert not hidden, f"{page.relative_to(ROOT)}, line {number}: {line}"


def test_documented_verbs_flags_and_files_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block in BLOCKS:
        for words in block.commands if block.language == "bash" else ():
            words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
            if words[0] == "openmfr":
                check_openmfr(words[1:], block.where)
            if words[0] == "make":
                assert set(words[1:]) <= targets, f"{block.where}: make {words[1:]}"
            for word in words:
                if word.startswith(("examples/", "benchmarks/")) and word.endswith(".py"):
                    assert (ROOT / word).exists(), f"{block.where}: no {word}"


def test_commands_named_in_the_text_exist() -> None:
    for page in PAGES:
        for words in re.findall(r"(?<!`)`openmfr ([^`]+)`", page.read_text(encoding="utf-8")):
            check_openmfr(shlex.split(words), str(page.relative_to(ROOT)))


@pytest.mark.slow
def test_the_documentation_runs_as_it_is_written(
    tmp_path: Path, real_data_if_any: Path | None
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path}
    environment.pop("PYTHONPATH", None)
    if real_data_if_any is not None:
        for name, folder in GIVEN.values():
            (tmp_path / name).symlink_to(real_data_if_any / folder)
    for block in BLOCKS:
        if not block.is_to_run(tmp_path):
            continue
        if block.title:
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
            continue
        script = tmp_path / ".block"
        script.write_text(block.text, encoding="utf-8")
        run = subprocess.run(
            [*RUN[block.language], str(script)],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"{block.where}:\n{block.text}\n{run.stdout}"
