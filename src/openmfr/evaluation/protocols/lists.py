"""Pair lists in the form that each set's authors published them.

`read_list` looks at what it is given and knows

- our CSV (`openmfr.evaluation.protocols.pairs.read_csv_pairs`);
- LFW's pairs.txt: a header, then `name i j` or `name i other_name j`;
- RFW: the same lines without a header; its folder of four lists is read as one, each pair of the
  kind African, Asian, Caucasian or Indian;
- CALFW's and CPLFW's pairs: two lines for each pair, `file label`, first all genuine pairs;
- CFP's folder Protocol: Pair_list_F.txt, Pair_list_P.txt and Split, frontal against profile (FP)
  unless the folder Split/FF is given;
- AgeDB-30's MATLAB file of ten splits.

How the images that a list names are found in a store, `openmfr.evaluation.protocols.sources` says.

LFW and CFP publish the folds of their pairs. RFW and AgeDB-30 list 600 pairs for each of ten, in
order; of CALFW and CPLFW, fold i has the i-th tenth of the genuine and of the impostor pairs, as is
usual.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.evaluation.protocols.pairs import PairList, read_csv_pairs
from openmfr.evaluation.protocols.sources import find_images

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_FOLDS: Final = 10
_ALLOWED: Final = (
    "a CSV list, LFW's, CALFW's, CPLFW's or RFW's .txt, AgeDB-30's .mat, CFP's folder Protocol, "
    "or RFW's folder of lists"
)


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """One pair as a list names it."""

    a: str
    b: str
    is_genuine: bool
    fold: int = -1
    kind: str = ""


def read_pairs(path: Path | str, sources: Sequence[str]) -> PairList:
    """Read a published list of pairs and find its images among the sources.

    Args:
        path: The list, or the folder that holds it; see above.
        sources: Where each of N images came from: the store's column `source`.

    Returns:
        The pairs, in the list's order.

    Raises:
        UserError: If it is none of the known lists, a line is faulty, or images are missing, which
            are named together, the first with the nearest name there is.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        return read_csv_pairs(path, sources)
    if path.is_dir():
        pairs = _pairs_of_folder(path)
    elif path.suffix.lower() == ".mat":
        pairs = _agedb(path)
    else:
        pairs = _pairs_of_text(path)
    if not pairs:
        raise _fault(path, "no pairs", "fill the list")
    return _found(path, pairs, sources)


def identities_from_pairs(
    index_a: IntArray, index_b: IntArray, is_genuine: BoolArray, *, count: int
) -> IntArray:
    """Tell people apart by the pairs alone: images that genuine pairs link are of one person.

    Where a set says nothing of who is on its images, this is what it still says. A person whose
    images are in no genuine pair with each other counts as several people: intervals that rest on
    drawing people again are then a little too narrow.

    Args:
        index_a: First image of each pair, shape (P,).
        index_b: Second image, shape (P,).
        is_genuine: Whether both show one person, shape (P,).
        count: Number of images, N.

    Returns:
        Identities, numbered by their first image, shape (N,), int64.

    Example:
        >>> a, b = np.array([0, 1, 3]), np.array([1, 2, 4])
        >>> identities_from_pairs(a, b, np.array([True, True, False]), count=5).tolist()
        [0, 0, 0, 1, 2]
    """
    parent = list(range(count))

    def root(image: int) -> int:
        while parent[image] != image:
            parent[image] = parent[parent[image]]
            image = parent[image]
        return image

    linked = zip(index_a[is_genuine].tolist(), index_b[is_genuine].tolist(), strict=True)
    for a, b in linked:
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    roots = np.array([root(image) for image in range(count)], dtype=np.int64)
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)


def _found(path: Path, pairs: Sequence[_Pair], sources: Sequence[str]) -> PairList:
    rows = find_images(
        [pair.a for pair in pairs] + [pair.b for pair in pairs], sources, where=str(path)
    )
    fold = np.array([pair.fold for pair in pairs], dtype=np.int64)
    kind = np.array([pair.kind for pair in pairs], dtype=np.str_)
    return PairList(
        index_a=rows[: len(pairs)],
        index_b=rows[len(pairs) :],
        is_genuine=np.array([pair.is_genuine for pair in pairs], dtype=np.bool_),
        fold=fold if (fold >= 0).all() else None,
        kind=kind if kind.astype(np.bool_).all() else None,
    )


def _fault(where: Path | str, found: str, next_step: str) -> UserError:
    return UserError(where=str(where), found=found, allowed=_ALLOWED, next_step=next_step)


def _lines(path: Path) -> list[list[str]]:
    """Words of each line; what stands between tabs may hold spaces."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _fault(
            path, f"no readable text ({type(error).__name__})", "check the path"
        ) from error
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return [line.split("\t") if "\t" in line else line.split() for line in lines]


def _pairs_of_text(path: Path) -> list[_Pair]:
    lines = _lines(path)
    first = lines[0] if lines else []
    if first and len(first) <= 2 and all(word.isdecimal() for word in first):
        pairs = list(_numbered(path, lines[1:], start=2))
        if len(first) == 1:  # view 1 has no folds
            return pairs
        return _with_folds(pairs, of=2 * int(first[1]))
    if len(first) == 2:
        return _two_lines_each(path, lines)
    pairs = list(_numbered(path, lines, start=1))
    return _with_folds(pairs, of=len(pairs) // _FOLDS) if len(pairs) % _FOLDS == 0 else pairs


def _numbered(path: Path, lines: Sequence[Sequence[str]], *, start: int) -> Iterator[_Pair]:
    """LFW's lines and RFW's: image i of a name is `name/name_000i`."""
    for number, words in enumerate(lines, start=start):
        if len(words) not in (3, 4) or not (words[1].isdecimal() and words[-1].isdecimal()):
            raise _fault(
                f"{path}, line {number}",
                repr(" ".join(words)),
                "a line is `name i j` or `name i other_name j`",
            )
        a, b = words[0], words[2] if len(words) == 4 else words[0]
        yield _Pair(
            a=f"{a}/{a}_{int(words[1]):04d}",
            b=f"{b}/{b}_{int(words[-1]):04d}",
            is_genuine=a == b,
        )


def _with_folds(pairs: Sequence[_Pair], *, of: int) -> list[_Pair]:
    """Number the folds of a list that has them one after another, `of` pairs in each."""
    return [
        _Pair(a=p.a, b=p.b, is_genuine=p.is_genuine, fold=i // max(of, 1))
        for i, p in enumerate(pairs)
    ]


def _two_lines_each(path: Path, lines: Sequence[Sequence[str]]) -> list[_Pair]:
    """CALFW's and CPLFW's lines: `file label`, 0 for impostors, the same for both of a pair."""
    bad = next((i for i, w in enumerate(lines) if len(w) != 2 or not w[1].isdecimal()), None)
    if bad is None and len(lines) % 2:
        bad = len(lines) - 1
    for i in range(0, len(lines) if bad is None else 0, 2):
        if (lines[i][1] == "0") != (lines[i + 1][1] == "0"):
            bad = i + 1
            break
    if bad is not None:
        raise _fault(
            f"{path}, line {bad + 1}",
            repr(" ".join(lines[bad])),
            "two lines make a pair, each `file label`, with one label",
        )
    is_genuine = [lines[i][1] != "0" for i in range(0, len(lines), 2)]
    size = {side: is_genuine.count(side) for side in (True, False)}
    has_folds = all(count and count % _FOLDS == 0 for count in size.values())
    seen, pairs = {True: 0, False: 0}, []
    for i, side in enumerate(is_genuine):
        fold = seen[side] * _FOLDS // size[side] if has_folds else -1
        seen[side] += 1
        pairs.append(_Pair(a=lines[2 * i][0], b=lines[2 * i + 1][0], is_genuine=side, fold=fold))
    return pairs


def _pairs_of_folder(folder: Path) -> list[_Pair]:
    if folder.parent.name == "Split":
        return _cfp(folder.parents[1], folder.name)
    for protocol in (folder, folder / "Protocol"):
        if (protocol / "Split").is_dir():
            return _cfp(protocol, "FP")
    lists = sorted(folder.glob("*/*_pairs.txt")) or sorted(folder.glob("txts/*/*_pairs.txt"))
    if not lists:
        likely = sorted(folder.glob("*pairs*.*"))
        step = f"give the list itself: {likely[0]}" if likely else "check the path"
        raise _fault(folder, "neither Split nor *_pairs.txt in its folders", step)
    return [
        _Pair(
            a=f"{path.parent.name}/{pair.a}",
            b=f"{path.parent.name}/{pair.b}",
            is_genuine=pair.is_genuine,
            fold=pair.fold,
            kind=path.parent.name,
        )
        for path in lists
        for pair in _pairs_of_text(path)
    ]


def _cfp(protocol: Path, split: str) -> list[_Pair]:
    """CFP's folds; images are numbered from 1 in the two lists of images."""
    first = _cfp_images(protocol / "Pair_list_F.txt")
    second = _cfp_images(protocol / "Pair_list_P.txt") if split == "FP" else first
    folders = sorted(path for path in (protocol / "Split" / split).glob("*") if path.is_dir())
    pairs = []
    for fold, folder in enumerate(folders):
        for is_genuine, path in ((True, folder / "same.txt"), (False, folder / "diff.txt")):
            for number, words in enumerate(_lines(path), start=1):
                numbers = "".join(words).split(",")
                if len(numbers) != 2 or numbers[0] not in first or numbers[1] not in second:
                    raise _fault(
                        f"{path}, line {number}",
                        repr(" ".join(words)),
                        "a line is two numbers of images, `12,7`",
                    )
                pairs.append(
                    _Pair(
                        a=first[numbers[0]],
                        b=second[numbers[1]],
                        is_genuine=is_genuine,
                        fold=fold,
                    )
                )
    return pairs


def _cfp_images(path: Path) -> dict[str, str]:
    """Number → image; the paths are `../Data/Images/001/frontal/01.jpg`."""
    lines = _lines(path)
    bad = next((i for i, words in enumerate(lines) if len(words) != 2), None)
    if bad is not None:
        raise _fault(
            f"{path}, line {bad + 1}", repr(" ".join(lines[bad])), "a line is `number path`"
        )
    return {words[0]: words[1] for words in lines}


def _agedb(path: Path) -> list[_Pair]:
    """AgeDB-30's splits: cells of a structure with the pairs, 2 × 600 names, and their labels."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise _fault(
            path, "no SciPy to read it with", "install it, or convert the list to CSV"
        ) from error
    try:
        splits = loadmat(path, variable_names=["splits"])["splits"]
        pairs = []
        for fold, split in enumerate(np.ravel(splits)):
            names, labels = _fields(split)[:2]
            first, second = np.asarray(names)
            for a, b, label in zip(first, second, np.ravel(labels), strict=True):
                pairs.append(_Pair(a=_text(a), b=_text(b), is_genuine=label > 0, fold=fold))
    except Exception as error:  # loadmat and odd structures raise whatever they meet
        raise _fault(path, f"no splits in it ({type(error).__name__})", "check the path") from error
    return pairs


def _fields(value: Any) -> Any:
    """Unwrap a MATLAB cell down to its structure, whose fields come in order."""
    while isinstance(value, np.ndarray) and value.size == 1:
        value = value.flat[0]
    return list(value)


def _text(value: Any) -> str:
    """Unwrap a MATLAB string from its cells and structures."""
    while not isinstance(value, str):
        value = value[0]
    return value
