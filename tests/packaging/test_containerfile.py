"""The container's recipe, as far as it can be read without an engine to build it."""

from __future__ import annotations

import ast
import importlib
import json
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """Instruction and argument of each step, lines joined."""
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word, " ".join(rest.split()))
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


def argument(steps: list[tuple[str, str]], word: str) -> str:
    """The argument of the last step of a kind."""
    return [rest for found, rest in steps if found == word][-1]


def test_it_is_made_of_known_steps_from_a_slim_image(steps: list[tuple[str, str]]) -> None:
    known = "FROM WORKDIR COPY RUN ENV USER VOLUME EXPOSE STOPSIGNAL HEALTHCHECK ENTRYPOINT CMD"
    assert {word for word, _ in steps} <= set(known.split())
    assert steps[0] == ("FROM", "python:3.11-slim AS build")
    assert argument(steps, "FROM") == "python:3.11-slim"


def test_what_is_copied_exists_and_holds_no_secrets(steps: list[tuple[str, str]]) -> None:
    for word, rest in steps:
        if word == "COPY" and not rest.startswith("--from"):
            *sources, _ = rest.split()
            for source in sources:
                assert source != ".", "a whole folder would carry keys and galleries along"
                assert (ROOT / source).exists(), source


def test_the_extra_that_it_installs_exists(steps: list[tuple[str, str]]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installs = [rest for word, rest in steps if word == "RUN" and ".[" in rest]
    assert installs
    for rest in installs:
        extra = rest.partition(".[")[2].partition("]")[0]
        assert extra in project["optional-dependencies"]


def test_it_runs_as_a_user_without_rights_who_exists(steps: list[tuple[str, str]]) -> None:
    user = argument(steps, "USER")
    assert user not in ("root", "0")
    after_last_image = max(i for i, (word, _) in enumerate(steps) if word == "FROM")
    made = [rest for word, rest in steps[after_last_image:] if word == "RUN"]
    assert any("useradd" in rest and shlex.split(rest)[-1] == user for rest in made)


def test_the_command_and_its_flags_exist(steps: list[tuple[str, str]]) -> None:
    import inspect

    program, verb = json.loads(argument(steps, "ENTRYPOINT"))
    assert program == "openmfr"
    parameters = inspect.signature(importlib.import_module(f"openmfr.cli.{verb}").main).parameters
    words = json.loads(argument(steps, "CMD"))
    flags = {word[2:].replace("-", "_") for word in words if word.startswith("--")}
    assert flags <= set(parameters)
    assert "keys" in flags, "an address that others can reach is refused without keys"
    assert argument(steps, "EXPOSE") == words[words.index("--port") + 1]


def test_the_health_check_is_a_program_that_asks_the_service(
    steps: list[tuple[str, str]],
) -> None:
    command: list[Any] = json.loads(argument(steps, "HEALTHCHECK").partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    ast.parse(command[2])
    assert f"127.0.0.1:{argument(steps, 'EXPOSE')}/v1/health" in command[2]
