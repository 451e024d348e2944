"""IJB-B and IJB-C, 1:1: templates of several images are compared, millions of pairs of them.

A *template* is a set of images of one person, stills and frames of videos; what comes from one
photo or one video is a *medium*. A template's embedding is the mean over its media of the mean over
the images of each. Before that, three things may weigh an image, together or alone:

- its embedding's length, which grows with how sure a recogniser is of a face (`use_length`;
  otherwise every image counts alike);
- the score of the detector that found the face (`use_detector_score`).

InsightFace quotes its results with both. The images are those of the published lists; embeddings
of images and of their mirror images are added before (openmfr embed --flip).

The published files give no identities. They do say who is the same: each probe template has a
genuine pair with its person's gallery template. So the people are what the genuine pairs hold
together: IJB-B's 12,115 templates and 10,270 genuine pairs leave 12,115 − 10,270 = 1,845 groups,
just its number of people. The bootstrap draws these.

Source:
    Whitelam et al., CVPRW 2017 (IJB-B); Maze et al., ICB 2018 (IJB-C); deepinsight/insightface
    `recognition/_evaluation_/ijb`; MFR paper, §5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from openmfr.errors import UserError
from openmfr.evaluation.comparisons import Comparisons, cosine_of_pairs
from openmfr.evaluation.protocols.lists import identities_from_pairs
from openmfr.evaluation.protocols.many_pairs import (
    ManyPairsResult,
    measure_many,
    score_many,
    score_margin,
)
from openmfr.evaluation.protocols.sources import listed, look_up

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: False accept rates that results on IJB are quoted at: `many_pairs.measure_many` takes them.
IJB_FARS: Final = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)

#: Templates that are pooled at once.
_BLOCK: Final = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class TemplatePairs:
    """A set's lists: N images in T templates, and P pairs of templates.

    Attributes:
        image: Name of each image, in the order of the published list, N of them.
        template: Template of each image, 0 to T − 1, shape (N,).
        medium: Medium of each image, shape (N,).
        template_id: Published number of each template, ascending, shape (T,).
        index_a: First template of each pair, shape (P,).
        index_b: Second template, shape (P,).
        is_genuine: Whether both are of one person, shape (P,).
        detector_score: Of each image, shape (N,); None if that list was not read.
    """

    image: Sequence[str]
    template: IntArray
    medium: IntArray
    template_id: IntArray
    index_a: IntArray
    index_b: IntArray
    is_genuine: BoolArray
    detector_score: FloatArray | None = None

    def __len__(self) -> int:
        return int(self.index_a.size)

    def rows(self, sources: Sequence[str], *, allow_missing: bool = False) -> IntArray:
        """Find the images in a store, by their file names.

        Args:
            sources: Where each image of the store came from: its column `source`.
            allow_missing: Go on without images that the store lacks.

        Returns:
            Row of each listed image, −1 where it is missing, shape (N,): embeddings for `compare`
            are `embedding[rows[rows >= 0]]` of `only(rows >= 0)`.

        Raises:
            UserError: If images are missing, or a name fits several images of the store.
        """
        rows = look_up([Path(name).name for name in self.image], sources, where="list of images")
        missing = [self.image[i] for i in np.flatnonzero(rows < 0).tolist()]
        if missing and not allow_missing:
            raise UserError(
                where="images of the templates",
                found=f"{len(missing):,} that are not in the store: {listed(missing)}",
                allowed=f"the {len(sources):,} sources of the embedded store",
                next_step="ingest the set's folder of crops, or allow missing images",
            )
        return rows

    def only(self, keep: BoolArray) -> TemplatePairs:
        """Leave images out, shape (N,).

        Raises:
            UserError: If a template is left without images.
        """
        has_image = np.bincount(self.template[keep], minlength=self.template_id.size) > 0
        _check_templates(has_image, self.template_id, "no image that could be used")
        score = self.detector_score
        return replace(
            self,
            image=[name for name, is_kept in zip(self.image, keep, strict=True) if is_kept],
            template=self.template[keep],
            medium=self.medium[keep],
            detector_score=None if score is None else score[keep],
        )

    def pool(
        self,
        embedding: FloatArray,
        *,
        use_length: bool = True,
        use_detector_score: bool = True,
    ) -> FloatArray:
        """Make a template's embedding of those of its images.

        Args:
            embedding: One row for each image, in the list's order, shape (N, D).
            use_length: Whether a longer embedding weighs more.
            use_detector_score: Whether a face that the detector was surer of weighs more.

        Returns:
            Unit vectors, shape (T, D), float64.

        Raises:
            UserError: If there are not N embeddings, one is not finite, zero where its length is
                not used, scores are wanted and none were read, or a template's embedding is zero.
        """
        weight = self._weight(embedding, use_length, use_detector_score)
        order = np.lexsort((self.medium, self.template))
        template, medium = self.template[order], self.medium[order]
        is_first = np.ones(order.size, dtype=np.bool_)
        is_first[1:] = (np.diff(template) != 0) | (np.diff(medium) != 0)
        # Images of a medium share its weight.
        weight = weight[order] / np.bincount(np.cumsum(is_first) - 1)[np.cumsum(is_first) - 1]
        pooled = np.empty((self.template_id.size, embedding.shape[1]))
        begin = np.searchsorted(template, np.arange(self.template_id.size + 1))
        for start in range(0, self.template_id.size, _BLOCK):
            bounds = begin[start : start + _BLOCK + 1]
            part = slice(bounds[0], bounds[-1])
            rows = embedding[order[part]] * weight[part, None]
            pooled[start : start + _BLOCK] = np.add.reduceat(rows, bounds[:-1] - bounds[0])
        length = np.linalg.norm(pooled, axis=1)
        _check_templates(length > 0, self.template_id, "an embedding of length 0")
        pooled /= length[:, None]
        return pooled

    def compare(
        self,
        embedding: FloatArray,
        *,
        use_length: bool = True,
        use_detector_score: bool = True,
    ) -> Comparisons:
        """Score the pairs of templates; see `pool`.

        Returns:
            Scores, float32, with the templates' rows as `index_a` and `index_b`, and as identities
            the people that the genuine pairs hold together.

        Raises:
            UserError: As `pool`, or if an impostor pair is of a person held together like that.
        """
        pooled = self.pool(embedding, use_length=use_length, use_detector_score=use_detector_score)
        return self.compare_pooled(pooled)

    def compare_pooled(self, pooled: FloatArray) -> Comparisons:
        """Score the pairs of templates that `pool` made; see `compare`.

        Args:
            pooled: Unit vectors, shape (T, D).
        """
        identity = identities_from_pairs(
            self.index_a, self.index_b, self.is_genuine, count=len(pooled)
        )
        identity_a, identity_b = identity[self.index_a], identity[self.index_b]
        bad = np.flatnonzero((identity_a == identity_b) != self.is_genuine)
        if bad.size:
            a, b = (self.template_id[side[bad[0]]] for side in (self.index_a, self.index_b))
            raise UserError(
                where=f"pair {bad[0] + 1} (templates {a} and {b})",
                found="impostor, though genuine pairs link both",
                allowed="one person in what genuine pairs link",
                next_step="mend the list of pairs",
            )
        return Comparisons(
            score=score_many(pooled, self.index_a, self.index_b),
            is_genuine=self.is_genuine,
            index_a=self.index_a,
            index_b=self.index_b,
            identity_a=identity_a,
            identity_b=identity_b,
        )

    def measure(
        self,
        pooled: FloatArray,
        *,
        fars: Sequence[float] = IJB_FARS,
        replicates: int = 1_000,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> ManyPairsResult:
        """Measure TAR@FAR of templates that `pool` made, exactly; see `measure_many`."""
        return measure_many(
            self.compare_pooled(pooled),
            fmrs=fars,
            replicates=replicates,
            confidence=confidence,
            seed=seed,
            rescore=lambda pairs: cosine_of_pairs(pooled, self.index_a[pairs], self.index_b[pairs]),
            margin=score_margin(pooled.shape[1]),
        )

    def _weight(self, embedding: FloatArray, use_length: bool, use_score: bool) -> FloatArray:
        if len(embedding) != len(self.image):
            raise UserError(
                where="embeddings",
                found=f"{len(embedding):,}",
                allowed=f"{len(self.image):,}, one for each listed image, in the list's order",
                next_step="embed the images of the list",
            )
        blocks = np.array_split(np.arange(len(embedding)), max(len(embedding) // 8192, 1))
        length = np.concatenate(
            [np.linalg.norm(embedding[part].astype(np.float64), axis=1) for part in blocks]
        )
        bad = np.flatnonzero(~np.isfinite(length) | ((length == 0) & (not use_length)))
        if bad.size:
            raise UserError(
                where=f"embedding {bad[0]} ({self.image[bad[0]]})",
                found=f"length {length[bad[0]]:g}",
                allowed="finite vectors other than zero",
                next_step="embed the image again, or leave it out",
            )
        weight = np.ones(len(embedding)) if use_length else 1 / length
        if use_score:
            if self.detector_score is None:
                raise UserError(
                    where="detector scores",
                    found="none",
                    allowed="the list NAME_name_5pts_score.txt beside the others",
                    next_step="give it, or do without detector scores",
                )
            weight = weight * self.detector_score
        return weight


def _check_templates(is_fine: BoolArray, template_id: IntArray, found: str) -> None:
    bad = template_id[~is_fine]
    if bad.size:
        raise UserError(
            where=f"template {listed(bad.astype(str).tolist())}",
            found=found,
            allowed="at least one usable image in each template",
            next_step="ingest and embed the images; rejected.csv says what was left out",
        )


def read_templates(meta: Path | str) -> TemplatePairs:
    """Read the published lists of a set.

    Args:
        meta: Their folder, with `*_face_tid_mid.txt` (image, template, medium),
            `*_template_pair_label.txt` (template, template, 1 or 0), and, for detector scores,
            `*_name_5pts_score.txt` (image, ten coordinates, score); a name is `ijbc_…` for example.

    Raises:
        UserError: If a list is missing, unreadable, faulty in a row, or contradicts another.
    """
    meta = Path(meta)
    found = {
        kind: sorted(meta.glob(f"*_{kind}.txt"))
        for kind in ("face_tid_mid", "template_pair_label", "name_5pts_score")
    }
    for kind, paths in found.items():
        if len(paths) > 1 or (not paths and kind != "name_5pts_score"):
            raise UserError(
                where=str(meta),
                found=f"{len(paths)} lists *_{kind}.txt",
                allowed="one",
                next_step="give the folder meta of one set, IJB-B or IJB-C",
            )
    image, template, medium = _read(found["face_tid_mid"][0], "sii")
    first, second, label = _read(found["template_pair_label"][0], "iii")
    template_id, code = np.unique(template, return_inverse=True)
    _check_pairs(found["template_pair_label"][0], template_id, first, second, label)
    scores = None
    for path in found["name_5pts_score"]:
        names, *_, scores = _read(path, "s" + "f" * 11)
        _check_same_images(path, names, image)
        bad = np.flatnonzero(~(np.isfinite(scores) & (scores >= 0)))
        if bad.size:
            raise UserError(
                where=f"{path}, row {bad[0] + 1}, score",
                found=f"{scores[bad[0]]:g}",
                allowed="finite numbers from 0",
                next_step="mend the list, or do without detector scores",
            )
    return TemplatePairs(
        image=image.tolist(),
        template=code.astype(np.int64),
        medium=medium,
        template_id=template_id,
        index_a=np.searchsorted(template_id, first),
        index_b=np.searchsorted(template_id, second),
        is_genuine=label == 1,
        detector_score=scores,
    )


def _read(path: Path, kinds: str) -> list[npt.NDArray[Any]]:
    """Read columns of text (s), integers (i) or numbers (f) between spaces or tabs."""
    types = {"s": pa.string(), "i": pa.int64(), "f": pa.float64()}
    names = [str(i) for i in range(len(kinds))]
    try:
        with path.open("rb") as file:
            delimiter = "\t" if b"\t" in file.readline() else " "
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(column_names=names),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: types[kind] for name, kind in zip(names, kinds, strict=True)},
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            where=str(path),
            found=f"no readable list ({str(error).splitlines()[0]})",
            allowed=f"{len(kinds)} columns between spaces, as published",
            next_step="check the path and the row",
        ) from error
    return [column.to_numpy() for column in table.columns]


def _check_pairs(
    path: Path, template_id: IntArray, first: IntArray, second: IntArray, label: IntArray
) -> None:
    place = np.minimum(np.searchsorted(template_id, first), template_id.size - 1)
    other = np.minimum(np.searchsorted(template_id, second), template_id.size - 1)
    is_known = (template_id[place] == first) & (template_id[other] == second)
    bad = np.flatnonzero(~is_known | ((label != 0) & (label != 1)))
    if bad.size:
        row = bad[0]
        raise UserError(
            where=f"{path}, row {row + 1}",
            found=f"{first[row]} {second[row]} {label[row]}",
            allowed="two templates of the list of images, and 1 or 0",
            next_step="give the lists of one set",
        )


def _check_same_images(path: Path, names: npt.NDArray[Any], image: npt.NDArray[Any]) -> None:
    if names.size != image.size or (names != image).any():
        row = int(np.argmax(names != image)) if names.size == image.size else -1
        raise UserError(
            where=f"{path}, row {row + 1}" if row >= 0 else str(path),
            found=f"{names[row]}" if row >= 0 else f"{names.size:,} images",
            allowed=f"{image[row]}" if row >= 0 else f"{image.size:,}, those of the templates",
            next_step="give the lists of one set",
        )
