"""API keys: shown once, kept as a hash, one for each program."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openmfr.cli import main as cli
from openmfr.deploy.service.keys import KeyRing, make_key, read_keys, remove_key
from openmfr.errors import UserError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_known_again_and_stands_nowhere(path: Path) -> None:
    key = make_key(path, "door")
    ring = KeyRing(path)
    assert (found := ring.find(key)) is not None
    assert found.name == "door"
    _, number, secret = key.split("_")
    assert len(bytes.fromhex(secret)) == 32
    assert secret not in path.read_text()
    assert number in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_equal_names_and_odd_ones_are_refused(path: Path) -> None:
    make_key(path, "door")
    for name in ("door", "", " ", "a\nb"):
        with pytest.raises(UserError, match="a name that no other key has"):
            make_key(path, name)
    assert [key.name for key in read_keys(path)] == ["door"]


def test_a_hash_is_no_key_and_a_number_does_not_open_another(path: Path) -> None:
    first, second = make_key(path, "one"), make_key(path, "two")
    ring = KeyRing(path)
    stored = read_keys(path)[0]
    for wrong in (
        f"omfr_{stored.number}_{stored.digest}",
        f"omfr_{stored.number}_{second.split('_')[2]}",
        first.upper(),
        f" {first}",
        first.partition("_")[2],
        "",
        "omfr_\u00e9_\udcff",
    ):
        assert ring.find(wrong) is None
    assert ring.find(first) is not None


def test_keys_made_at_once_are_all_there(path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: make_key(path, f"key {n}"), range(8)))
    ring = KeyRing(path)
    assert all(ring.find(key) for key in made)


def test_the_last_key_can_be_removed_and_then_nobody_comes_in(path: Path) -> None:
    key = make_key(path, "door")
    ring = KeyRing(path)
    with pytest.raises(UserError, match="did you mean door"):
        remove_key(path, "dor")
    remove_key(path, "door")
    assert ring.find(key) is None
    with pytest.raises(UserError, match="openmfr key new"):
        KeyRing(path)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"keys": []}', '{"format_version": 9, "kind": "API keys", "keys": []}'],
)
def test_what_is_no_file_of_keys_is_refused(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(UserError):
        KeyRing(path)
    with pytest.raises(UserError):
        make_key(path, "door")
    assert path.read_text() == content


def test_a_damaged_entry_is_named(path: Path) -> None:
    make_key(path, "door")
    content = json.loads(path.read_text())
    del content["keys"][0]["salt"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="key 0"):
        read_keys(path)


def test_keys_on_the_command_line(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cli.VERBS, "key", "API keys")
    assert cli.main(["key", "new", str(path), "--name", "door"]) == 0
    made = capsys.readouterr()
    assert KeyRing(path).find(made.out.strip())
    assert "only this once" in made.err
    assert cli.main(["key", "list", str(path)]) == 0
    listed = capsys.readouterr().out
    assert listed.startswith("door  ")
    assert made.out.strip() not in listed
    assert cli.main(["key", "remove", str(path), "--name", "door"]) == 0
    assert read_keys(path) == []
    assert cli.main(["key", "remove", str(path), "--name", "door"]) == 2
