"""Two commands never work in one folder at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from openmfr.errors import UserError
from openmfr.files import only_one, prepare_folder

HOLD = """
import sys
from pathlib import Path
from openmfr.files import only_one

with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_one_commands_until_it_ends_even_by_a_kill(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match="another command that works in this folder"),
            only_one(tmp_path, patience=0),
        ):
            pass
        other.kill()
        other.wait()
        with only_one(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_what_another_command_writes_is_not_taken_for_what_a_kill_left(tmp_path: Path) -> None:
    written = tmp_path / ".shard.1234.tmp"
    written.touch()
    (tmp_path / "settings.json").touch()
    with only_one(tmp_path):
        prepare_folder(tmp_path, mark="settings.json", what="store")
        assert written.exists()
    prepare_folder(tmp_path, mark="settings.json", what="store")
    assert not written.exists()
