"""InsightFace's `.bin` sets: every origin is read, and nothing in them is run."""

from __future__ import annotations

import os
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openmfr.data.formats.bin import read_bin
from openmfr.errors import UserError

IMAGES = [b"\xff\xd8 one \x00\x9f", b"\xff\xd8 two", b"\xff\xd8 three", b"\xff\xd8 four\n"]
TRUTHS = [True, False]


def pickled(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        [np.frombuffer(image, np.uint8) for image in IMAGES],
        # As OpenCV encodes: a column, whose memory is its own.
        [np.frombuffer(image, np.uint8)[:, None].copy() for image in IMAGES],
    ],
    ids=["bytes", "arrays", "columns"],
)
@pytest.mark.parametrize(
    "truths",
    [TRUTHS, [1, 0], [np.True_, np.False_], np.array(TRUTHS), np.array([1, 0])],
    ids=["python", "integers", "numpy", "array", "integer array"],
)
def test_images_and_truths_are_read_however_they_were_pickled(
    tmp_path: Path, protocol: int, images: Any, truths: Any
) -> None:
    found = read_bin(pickled(tmp_path / "set.bin", (images, truths), protocol))
    assert found.images == IMAGES
    assert found.is_genuine.tolist() == TRUTHS


@pytest.mark.parametrize("header", [b"\x80\x02", b""], ids=["protocol 2", "protocol 1"])
def test_a_set_that_python_2_wrote_is_read(tmp_path: Path, header: bytes) -> None:
    def text(content: bytes) -> bytes:
        return b"U" + bytes([len(content)]) + content  # SHORT_BINSTRING: Python 2's str

    images = b"](" + b"".join(text(image) for image in IMAGES) + b"e"
    (tmp_path / "set.bin").write_bytes(header + b"(" + images + b"](I01\nI00\net.")
    found = read_bin(tmp_path / "set.bin")
    assert found.images == IMAGES
    assert found.is_genuine.tolist() == TRUTHS


def test_arrays_that_numpy_1_pickled_under_python_2_are_read(tmp_path: Path) -> None:
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR"
        b"(I1\n(I5\ntcnumpy\ndtype\n(U\x02u1I0\nI1\ntR(I3\nU\x01|NNNI-1\nI-1\nI0\ntbI00\n"
        b"U\x05\xff\xd8abctb"
    )
    (tmp_path / "set.bin").write_bytes(b"\x80\x02(](" + array + array + b"e](I01\net.")
    assert read_bin(tmp_path / "set.bin").images == [b"\xff\xd8abc"] * 2


class Calls:
    """Pickles as a call."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_a_command_is_refused_and_runs_nothing(
    tmp_path: Path, protocol: int
) -> None:
    trap = tmp_path / "sprung"
    images = [*IMAGES, Calls(os.system, f"touch {trap}")]
    path = pickled(tmp_path / "set.bin", (images, TRUTHS), protocol)
    with pytest.raises(UserError, match=r"asks for (posix|nt|os)\.system.*do not use the file"):
        read_bin(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    "harmful",
    [
        Calls(eval, "1"),
        Calls(getattr, "text", "join"),
        Calls(np.load, "/dev/null"),
        Calls(bytes, 3),
        Calls(bytearray, 3),
        Calls(pickle.loads, b"N."),
        np.array([object()], dtype=object),
        np.zeros(2, dtype="S4"),
    ],
    ids=["eval", "getattr", "load", "bytes", "bytearray", "loads", "objects", "strings"],
)
def test_whatever_else_a_pickle_asks_for_is_refused(tmp_path: Path, harmful: Any) -> None:
    for protocol in (0, 2, 4):
        path = pickled(tmp_path / "set.bin", ([harmful, *IMAGES], TRUTHS), protocol)
        with pytest.raises(UserError, match="do not use the file"):
            read_bin(path)


@pytest.mark.parametrize(
    "program",
    [
        b"cnumpy\ndtype\n(N}U\x05_makecos\nsystem\nstb.",  # BUILD that would swap what is called
        b"cnumpy\ndtype\n(N}U\x05_makeNstb.",
        b"cnumpy\ndtype\n}U\x01aNsb.",
        b"\x80\x02cnumpy\ndtype\n)\x81.",  # NEWOBJ
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.__new__\x93.",  # a dotted name
        b"Psomewhere\n.",  # PERSID
        b"\x80\x02\x82\x01.",  # EXT1
    ],
)
def test_no_instruction_changes_what_a_name_does(tmp_path: Path, program: bytes) -> None:
    (tmp_path / "set.bin").write_bytes(program)
    with pytest.raises(UserError):
        read_bin(tmp_path / "set.bin")
    assert read_bin(pickled(tmp_path / "good.bin", (IMAGES, TRUTHS))).images == IMAGES


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x02Nr\xff\xff\xff\xff.", "room asked for 4,294,967,295 objects"),  # LONG_BINPUT
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00abc.", "no whole pickle"),  # BINBYTES8
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x00N.", "pickle"),  # FRAME
    ],
)
def test_room_is_not_made_for_what_the_file_does_not_hold(
    tmp_path: Path, program: bytes, message: str
) -> None:
    (tmp_path / "set.bin").write_bytes(program)
    with pytest.raises(UserError, match=message):
        read_bin(tmp_path / "set.bin")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (IMAGES, "a pickled list"),
        (({}, TRUTHS), "images in a dict"),
        (([*IMAGES[:3], "four"], TRUTHS), "image 3 as str"),
        (([*IMAGES[:3], b""], TRUTHS), "image 3 as bytes"),
        (([*IMAGES[:3], np.zeros(3)], TRUTHS), "numbers of type 'f8'"),
        ((IMAGES, [True, 2]), "truth value 1 as int"),
        ((IMAGES, "yes"), "truth values in a "),
        ((IMAGES[:3], TRUTHS), "3 images and 2 truth values"),
        (([], []), "0 images and 0 truth values"),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_bin(pickled(tmp_path / "set.bin", content))


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no readable file"):
        read_bin(tmp_path / "nothing.bin")
    whole = pickle.dumps((IMAGES, TRUTHS))
    for length in range(len(whole) - 1):
        (tmp_path / "set.bin").write_bytes(whole[:length])
        with pytest.raises(UserError, match="copy the file again"):
            read_bin(tmp_path / "set.bin")


def test_random_damage_never_ends_in_anything_but_an_error_or_a_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = np.frombuffer(
        pickletools.optimize(pickle.dumps(([np.frombuffer(i, np.uint8) for i in IMAGES], TRUTHS))),
        np.uint8,
    )
    for _ in range(1_000):
        damaged = whole.copy()
        places = rng.integers(whole.size, size=3)
        damaged[places] = rng.integers(256, size=3)
        (tmp_path / "set.bin").write_bytes(damaged.tobytes())
        try:
            read_bin(tmp_path / "set.bin")
        except UserError:
            continue
