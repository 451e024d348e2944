"""`openmfr convert` as a person meets it: what it prints, how it fails, and what a kill costs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from data.test_convert import SIZE, content, files_in, picture, store_of

from openmfr.cli.main import EXIT_USER_ERROR, main
from openmfr.data.labels import Labels
from openmfr.data.store import Store


def convert(*words: object) -> int:
    return main(["convert", *map(str, words), "--workers", "1"])


def test_the_command_converts_there_and_back_and_says_what_it_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(tmp_path / "store", ["ann", "ann", "ben", None])
    for to in ("recordio", "tar", "folder"):
        out, back = tmp_path / to, tmp_path / f"from-{to}"
        assert convert(store.path, out, "--to", to) == 0
        assert convert(out, back, "--to", "store", "--size", SIZE) == 0
        images = 3 if to == "recordio" else 4
        assert content(Store(back)) == content(store)[:images]
        printed = capsys.readouterr().out
        assert f"{out}: {images} images of 2 identities, as {to}" in printed
        assert ("1 images left out: nobody knows" in printed) == (to == "recordio")
        assert f"{back}: {images} images of 2 identities, from {to}" in printed
        assert convert(store.path, out, "--to", to) == 0
        assert "was finished already" in capsys.readouterr().out


def test_labels_choose_what_leaves_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(tmp_path / "store", ["ann", "ann", "ben"])
    Labels.from_identity([0, -1, 1], store=store).write(tmp_path / "clean.parquet")
    words = ("--to", "folder", "--labels", tmp_path / "clean.parquet")
    assert convert(store.path, tmp_path / "out", *words) == 0
    assert {"ann/000.jpg", "ben/000.jpg"} < files_in(tmp_path / "out").keys()
    assert "ann/001.jpg" not in files_in(tmp_path / "out")
    assert "2 images of 2 identities" in capsys.readouterr().out


def test_images_of_another_size_are_counted_and_what_takes_them_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set" / "ann").mkdir(parents=True)
    (tmp_path / "set" / "ann" / "1.jpg").write_bytes(picture(1))
    (tmp_path / "set" / "ann" / "2.jpg").write_bytes(picture(2, size=8))
    assert convert(tmp_path / "set", tmp_path / "out", "--to", "store", "--size", SIZE) == 0
    printed = capsys.readouterr().out
    assert "1 refused: wrong size" in printed
    assert "rejected.csv" in printed
    assert "openmfr ingest --aligned" in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere", "out", "--to", "store"), "nowhere: found nothing"),
        (("set", "out", "--to", "tar"), "found a folder; allowed: a store; openmfr convert set"),
        (("store", "out", "--to", "store"), "a store needs no conversion"),
        (("store", "out", "--to", "tar", "--images-per-tar", "0"), "images_per_tar: found 0"),
        (("set", "out", "--to", "store", "--size", "0"), "size: found 0"),
        (("set", "out", "--to", "store", "--labels", "x.parquet"), "labels of the store"),
        (("set", "out", "--to", "checkpoint", "--labels", "x"), "found x for a new checkpoint"),
        (("store", "out", "--to", "tar", "--labels", "x.parquet"), "no readable label table"),
    ],
)
def test_mistakes_are_one_line_and_make_nothing(
    tmp_path: Path,
    words: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    store_of(tmp_path / "store", ["ann"])
    (tmp_path / "set" / "ann").mkdir(parents=True)
    (tmp_path / "set" / "ann" / "1.jpg").write_bytes(picture(1))
    assert convert(*words) == EXIT_USER_ERROR
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_real_faces_come_back_byte_for_byte(real_data: Path, tmp_path: Path) -> None:
    photos = sorted((real_data / "mfr2-dev").rglob("*.jpg")) + sorted(
        (real_data / "lfw-112").rglob("*.jpg")
    )
    for number, photo in enumerate(photos[:20]):
        (tmp_path / "set" / f"{number % 5}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / f"{number % 5}" / f"{number}.jpg").write_bytes(photo.read_bytes())
    assert convert(tmp_path / "set", tmp_path / "store", "--to", "store") == 0
    store = Store(tmp_path / "store")
    assert len(store) == 20
    for to in ("recordio", "tar", "folder"):
        assert convert(store.path, tmp_path / to, "--to", to) == 0
        assert convert(tmp_path / to, tmp_path / f"from-{to}", "--to", "store") == 0
        assert content(Store(tmp_path / f"from-{to}")) == content(store)


def begin(words: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "openmfr", "convert", *words]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)


def kill_all(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_and_kill(words: list[str], delay: float) -> None:
    """Run the command, and kill it and its workers if it is at work for longer than that."""
    process = begin(words)
    try:
        process.wait(timeout=delay)
    except subprocess.TimeoutExpired:
        kill_all(process)
    else:
        assert process.returncode == 0


def kill_once_begun(words: list[str], out: Path) -> None:
    """Run the command, and kill it and its workers once something of theirs stands there."""
    process = begin(words)
    while not out.exists():
        assert process.poll() is None
        time.sleep(0.002)
    assert process.poll() is None, "it was over before it could be killed"
    kill_all(process)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["recordio", "tar", "folder"])
def test_a_command_that_is_killed_at_any_moment_goes_on_to_the_same_files(
    tmp_path: Path, to: str
) -> None:
    store = store_of(tmp_path / "store", [f"p{i % 300}" for i in range(3_000)], per_shard=500)
    out_words = [str(store.path), "OUT", "--to", to, "--images-per-tar", "100", "--workers", "2"]
    back_words = ["SET", "OUT", "--to", "store", "--size", str(SIZE), "--workers", "2"]
    assert main(["convert", *(w.replace("OUT", str(tmp_path / "whole")) for w in out_words)]) == 0
    for words, whole, source in (
        (out_words, tmp_path / "whole", ""),
        (back_words, None, str(tmp_path / "whole")),
    ):
        out = tmp_path / ("out" if whole else "back")
        command = [w.replace("OUT", str(out)).replace("SET", source) for w in words]
        started = time.monotonic()
        assert begin([w.replace(str(out), f"{out}-timed") for w in command]).wait(300) == 0
        longest = time.monotonic() - started
        kill_once_begun(command, out)
        draw = random.Random(to)
        for _ in range(9):
            run_and_kill(command, draw.uniform(0.2, 1) * longest)
        assert main(["convert", *command]) == 0
        if whole:
            assert files_in(out) == files_in(whole)
    expected = content(store)
    assert content(Store(tmp_path / "back")) == expected
