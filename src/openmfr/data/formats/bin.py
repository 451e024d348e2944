"""InsightFace's pickled `.bin` sets, such as lfw.bin and cfp_fp.bin, read without running anything.

A set is one pickle: a list of 2P encoded images, and P truth values that say whether images 2i and
2i + 1 show one person. A pickle is a program, and these files travel from hand to hand, so it is
read by an unpickler whose every name is checked. What such a file needs is given to it as objects
of our own that hold bytes and do nothing; anything else, and any opcode that asks for more memory
than the file has bytes, ends in an error before it is carried out.

Files of every origin are read: Python 2 and 3, images as bytes or as arrays of NumPy before and
after 2.0, truth values as Python's, as NumPy's, or as one array.

Source:
    deepinsight/insightface `build_eval_pack.py`, `eval/verification.py`; Python `pickletools`.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError

BoolArray = npt.NDArray[np.bool_]

#: Kinds of numbers that truth values and bytes come as: booleans and integers.
_TYPES: Final = frozenset({"b1", "?", "bool", "u1", "uint8", "i1", "i4", "i8"})


@dataclass(frozen=True, kw_only=True, eq=False)
class BinSet:
    """A set's images and pairs: pair i compares images 2i and 2i + 1.

    Attributes:
        images: Encoded images, 2P of them.
        is_genuine: Whether a pair shows one person, shape (P,), bool.
    """

    images: list[bytes]
    is_genuine: BoolArray

    def __len__(self) -> int:
        return len(self.images)


def read_bin(path: Path | str) -> BinSet:
    """Read a set.

    Args:
        path: The `.bin` file.

    Raises:
        UserError: If the file is missing, no pickle, asks for anything that a set of images does
            not need, or does not hold two images for each truth value.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _refusal(path, f"no readable file ({error.strerror})", "check the path") from error
    try:
        _check_opcodes(content)
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except _RefusedError as error:
        raise _refusal(
            path, str(error), "do not use the file: sets need no such thing; fetch it again"
        ) from error
    except Exception as error:  # a damaged pickle ends in whatever its bytes happen to mean
        raise _refusal(
            path, f"no whole pickle ({type(error).__name__})", "copy the file again"
        ) from error
    return _check(path, found)


def _refusal(path: Path, found: str, next_step: str) -> UserError:
    return UserError(
        where=str(path),
        found=found,
        allowed="a pickled list of encoded images and a list of truth values, as in lfw.bin",
        next_step=next_step,
    )


class _RefusedError(pickle.UnpicklingError):
    """The pickle asks for something that a set of images does not need."""


class _Sealed:
    """What a pickle may hold: without a dictionary, and closed to its BUILD instruction."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise _RefusedError(f"an attempt to set {name}")


class _Type(_Sealed):
    """A NumPy type: its name alone."""

    __slots__ = ("name",)
    name: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "name", name)

    def __setstate__(self, state: object) -> None:
        """Ignore the rest; whole numbers of either byte order are zero or not."""


class _Array(_Sealed):
    """A NumPy array or number: its type and bytes."""

    __slots__ = ("content", "name")
    name: str
    content: bytes

    def __init__(self, name: str = "", content: bytes = b"") -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "content", content)

    def __setstate__(self, state: tuple[int, Any, _Type, bool, bytes]) -> None:
        _, _, kind, _, content = state
        _Array.__init__(self, kind.name, bytes(content))

    def truth(self) -> list[bool]:
        """Read numbers as truth values."""
        values = np.frombuffer(self.content, np.dtype(self.name))
        return [bool(value) for value in values]


class _Named(_Sealed):
    """A name that the pickle may call, and what happens then."""

    __slots__ = ("_make",)
    _make: Callable[..., Any]

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)


def _make_type(name: object, *_: object) -> _Type:
    text = name.decode("ascii") if isinstance(name, bytes) else str(name)
    if text not in _TYPES:
        raise _RefusedError(f"numbers of type {text!r}")
    return _Type(text)


def _make_number(kind: _Type, content: bytes | str) -> _Array:
    # Python 3 writes bytes in old protocols as text of their codes.
    raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
    return _Array(kind.name, raw)


def _encode(text: str | bytes, *_: object) -> bytes:
    return text.encode("latin1") if isinstance(text, str) else bytes(text)


def _empty_bytes(*arguments: object) -> bytes:
    if arguments:
        raise _RefusedError("bytes made from something else")
    return b""


def _array_of_buffer(buffer: bytes | bytearray, kind: _Type, *_: object) -> _Array:
    return _Array(kind.name, bytes(buffer))


#: Name by module → what it makes. NumPy renamed its modules in 2.0; Python 2 has other builtins.
_NAMES: Final[dict[tuple[str, str], Callable[..., Any]]] = {
    **{
        (f"numpy.{core}.{module}", name): make
        for core in ("core", "_core")
        for module, name, make in (
            ("multiarray", "_reconstruct", lambda *_: _Array()),
            ("multiarray", "scalar", _make_number),
            ("numeric", "_frombuffer", _array_of_buffer),
        )
    },
    ("numpy", "ndarray"): lambda *_: _Array(),
    ("numpy", "dtype"): _make_type,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _empty_bytes,
    ("__builtin__", "bytes"): _empty_bytes,
}


class _Unpickler(pickle.Unpickler):
    """An unpickler that finds only the names above, none of them real."""

    def find_class(self, module: str, name: str, /) -> Any:
        make = _NAMES.get((module, name))
        if make is None:
            raise _RefusedError(f"a pickle that asks for {module}.{name}")
        return _Named(make)


def _check_opcodes(content: bytes) -> None:
    """Refuse lengths beyond the file, and numbered places beyond what has been read so far.

    The unpickler would make room for both before it looks further.
    """
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if "PUT" in opcode.name and int(argument or 0) > number:
            raise _RefusedError(f"room asked for {argument:,} objects")


def _check(path: Path, found: object) -> BinSet:
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise _refusal(path, f"a pickled {type(found).__name__}", "choose a verification set")
    images, truths = found
    if not isinstance(images, list | tuple):
        raise _refusal(path, f"images in a {type(images).__name__}", "choose a verification set")
    encoded = [_image(path, number, image) for number, image in enumerate(images)]
    is_genuine = _truths(path, truths)
    if len(encoded) != 2 * is_genuine.size or not encoded:
        raise _refusal(
            path,
            f"{len(encoded):,} images and {is_genuine.size:,} truth values",
            "two images belong to each; copy the file again",
        )
    return BinSet(images=encoded, is_genuine=is_genuine)


def _image(path: Path, number: int, image: object) -> bytes:
    if isinstance(image, _Array) and image.name in ("u1", "uint8", "i1"):
        image = image.content
    if isinstance(image, bytes | bytearray) and image:
        return bytes(image)
    raise _refusal(
        path, f"image {number} as {_kind(image)}", "make the set again with encoded images"
    )


def _truths(path: Path, truths: object) -> BoolArray:
    if isinstance(truths, _Array):
        return np.array(truths.truth(), dtype=np.bool_)
    if not isinstance(truths, list | tuple):
        raise _refusal(path, f"truth values in a {_kind(truths)}", "make the set again")
    values = []
    for number, truth in enumerate(truths):
        value = truth.truth() if isinstance(truth, _Array) else [truth]
        if len(value) != 1 or not isinstance(value[0], bool | int) or value[0] not in (0, 1):
            raise _refusal(path, f"truth value {number} as {_kind(truth)}", "make the set again")
        values.append(bool(value[0]))
    return np.array(values, dtype=np.bool_)


def _kind(value: object) -> str:
    return "an array or number" if isinstance(value, _Array) else f"{type(value).__name__}"
