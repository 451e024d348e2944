"""The decisions of a pass as pictures: what was decided about, beside what it was held against."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from openmfr.cleaning.changes import DROP, MERGE, MOVE, REPEATS, Changes, plain_reason
from openmfr.cleaning.clean import CleanResult
from openmfr.cleaning.inter import Merge, apply_merges
from openmfr.data.store import Store
from openmfr.report import page as html
from openmfr.report.page import Cell, Html, Strip
from openmfr.report.sheet import strip

IntArray = npt.NDArray[np.int64]

#: What is done by each kind of decision, in the order of the page.
TITLES = {DROP: "Dropped", MOVE: "Moved", MERGE: "Merged"}
#: Images that stand for an identity beside one image, and beside another identity.
_BESIDE_IMAGE, _BESIDE_IDENTITY = 3, 4
_NO_BREAK = "\N{NO-BREAK SPACE}"
_REPEATS = re.compile(rf"{REPEATS} (\d+)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Decisions of one kind that have one reason.

    Attributes:
        kind: "drop", "move" or "merge".
        reason: As `plain_reason` says it.
        changes: The decisions, the closest first.
    """

    kind: str
    reason: str
    changes: Changes

    def __len__(self) -> int:
        return len(self.changes)

    @property
    def title(self) -> str:
        """Kind and reason in words."""
        return f"{TITLES[self.kind]}: {self.reason}"


def groups_of(changes: Changes) -> list[Group]:
    """Sort decisions by kind and reason, the most frequent reason of a kind first."""
    groups = []
    for kind in TITLES:
        part = changes.of(kind)
        reasons = np.array([plain_reason(reason) for reason in part.reason.tolist()], dtype=np.str_)
        for reason, _ in Counter(reasons.tolist()).most_common():
            is_of = reasons == reason
            columns = {name: getattr(part, name)[is_of] for name in Changes.__dataclass_fields__}
            groups.append(Group(kind=kind, reason=reason, changes=Changes(**columns)))
    return groups


class DecisionPictures:
    """Draws decisions; an image is decoded when it is drawn.

    Args:
        result: The pass.
        store: Its images.
    """

    def __init__(self, result: CleanResult, store: Store) -> None:
        before, after, merges = result.before, result.labels, result.changes.of(MERGE)
        columns = (merges.after.tolist(), merges.before.tolist(), merges.score.tolist())
        made = [Merge(*row) for row in zip(*columns, strict=True)]
        self._store = store
        self._source: list[str] = store.column("source")
        self._name: list[str | None] = store.column("identity_name")
        self._was_kept, self._dropped = before.keep, before.keep & ~after.keep
        self._number = before.identity
        self._merged_number = apply_merges(before.identity, made)
        # What moved in this pass is a claim of its own, and stands for nobody.
        self._stayed = after.keep & (after.identity == self._merged_number)
        self._score = np.nan_to_num(after.center_score, nan=-np.inf)

    def figures(self, group: Group, most: int) -> Iterator[Html]:
        """Draw the closest decisions of a group.

        Args:
            group: Decisions of one kind.
            most: Up to so many are drawn.
        """
        changes = group.changes
        for i in range(min(most, len(group))):
            image, before, after = (
                int(column[i]) for column in (changes.image, changes.before, changes.after)
            )
            twin = _REPEATS.fullmatch(str(changes.reason[i]))
            beside = int(twin[1]) if twin else -1
            yield html.decision(
                self._strips(group.kind, image, before, after, beside),
                caption=_caption(changes, i),
                kind=group.title,
                text=self._text((image, beside), (before, after)),
                row=changes.row(i, self._source, veto="no"),
            )

    def _strips(self, kind: str, image: int, before: int, after: int, twin: int) -> list[Strip]:
        """What a decision is about, and what it was held against."""
        if kind == MERGE:
            return [*self._half(before, "{}"), *self._half(after, "into {}")]
        about = self._image(image, is_marked=True)
        if twin >= 0:
            return [about, self._image(twin)]
        own = int(self._merged_number[image])
        joined = "" if own == before else f", which identity {before} joined"
        if kind == DROP:
            return [about, *self._whole(own, "{}" + joined, without=image)]
        return [
            about,
            *self._whole(own, "from {}" + joined, without=image),
            *self._whole(after, "to {}", without=image),
        ]

    def _image(self, image: int, *, is_marked: bool = False) -> Strip:
        """One image alone."""
        name = PurePosixPath(self._source[image]).name
        faces = strip([self._store.decode(image)])
        return Strip(image=faces, label=name, alt=name, is_marked=is_marked)

    def _half(self, identity: int, label: str) -> list[Strip]:
        """The best images of one side of a merge."""
        rows = np.flatnonzero(self._number == identity)
        return self._best(rows, label.format(self._who(identity)), _BESIDE_IDENTITY)

    def _whole(self, identity: int, label: str, *, without: int) -> list[Strip]:
        """The best images of an identity as it is after all merges, without one of them."""
        rows = np.flatnonzero(self._merged_number == identity)
        return self._best(rows[rows != without], label.format(self._who(identity)), _BESIDE_IMAGE)

    def _best(self, rows: IntArray, label: str, most: int) -> list[Strip]:
        """The images that fit best among those that stayed; else of the dropped, else of all."""
        kinds = (self._stayed, self._dropped, self._was_kept)
        shown = next((part for kind in kinds if (part := rows[kind[rows]]).size), rows[:0])
        if not shown.size:
            return []
        best = shown[np.argsort(-self._score[shown], kind="stable")][:most]
        faces = strip([self._store.decode(row) for row in best.tolist()])
        images = "1 image" if shown.size == 1 else f"{shown.size:,} images"
        label = f"{label}, {images}" + ("" if self._stayed[shown[0]] else ", none kept")
        return [Strip(image=faces, label=label, alt=f"The best of {label}")]

    def _who(self, identity: int) -> str:
        """An identity's number, and the name that most of its images have in the store."""
        rows = np.flatnonzero(self._was_kept & (self._number == identity))
        names = Counter(name for row in rows.tolist() if (name := self._name[row]))
        return f"identity {identity}" + (f" · {names.most_common(1)[0][0]}" if names else "")

    def _text(self, images: Sequence[int], identities: Sequence[int]) -> str:
        """What a person may search a decision by: numbers, names, and whole sources."""
        parts = [f"image {row} {self._source[row]}" for row in images if row >= 0]
        return " ".join([*parts, *(self._who(number) for number in identities if number >= 0)])


def _caption(changes: Changes, i: int) -> Html:
    """What spoke for the decision and what that was held against, the image, and the reason."""
    kind, score, threshold = str(changes.kind[i]), float(changes.score[i]), changes.threshold[i]
    parts: list[Cell] = []
    if np.isfinite(score):
        parts += ["evidence " if kind == MOVE else "score ", html.number(score, f"{score:.3f}")]
        if np.isfinite(threshold):
            parts.append(f"{_NO_BREAK}{'<' if kind == DROP else '≥'}{_NO_BREAK}")
            parts.append(html.number(float(threshold), f"{threshold:.3f}"))
        parts.append(" · ")
    if changes.image[i] >= 0:
        parts.append(f"image {changes.image[i]} · ")
    return html.join(*parts, str(changes.reason[i]))
