"""`openmfr evaluate megaface`: finding a person's photo among strangers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from openmfr.data.store import Store
    from openmfr.embed import Embeddings

    FloatArray = npt.NDArray[np.float32]
    IntArray = npt.NDArray[np.int64]


def main(
    probes: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PROBES ...")],
    *,
    distractors: tuple[Path, ...],
    out: Path,
    probe_list: Path | None = None,
    distractor_list: Path | None = None,
    probe_noise: Path | None = None,
    distractor_noise: Path | None = None,
    labels: Path | None = None,
    store: Path | None = None,
    distractor_store: Path | None = None,
    max_rank: int = 10,
    replicates: int = 1_000,
    seed: int = 0,
) -> None:
    """Measure how often a person's other photo is found first among distractors, as MegaFace does.

    Each photo of a person looks for each of her others, one at a time, among all distractors.

    Example: openmfr evaluate megaface facescrub-embeddings --distractors megaface-embeddings
    --probe-list facescrub_features_list.json --out report

    Example: openmfr evaluate megaface first-probes second-probes --distractors first-others
    second-others --out report

    Models stand side by side, with paired differences to the first.

    Args:
        probes: Folders that openmfr embed wrote, of one store: photos of people who are looked for.
        distractors: For each of PROBES, the folder that the same model's openmfr embed wrote:
            strangers.
        out: Folder for report.html, report.md and report.json.
        probe_list: The development kit's list of probes (JSON); all images of the store, with its
            identity names, by default.
        distractor_list: The kit's list of distractors; all images of their store by default.
        probe_noise: InsightFace's list of probes to leave out.
        distractor_noise: InsightFace's list of distractors to leave out.
        labels: Who is on each probe, where no list is given; the names of the store by default.
        store: Where the probes' store lies now, if it was moved.
        distractor_store: Where the distractors' store lies now, if it was moved.
        max_rank: Last rank of the table.
        replicates: Draws of identities for the 95 % intervals.
        seed: Of the draws.
    """
    from openmfr.cli.evaluating import check_numbers, say
    from openmfr.evaluation.protocols.megaface import identify
    from openmfr.evaluation.protocols.megaface_report import (
        identification_differences,
        identification_summary,
        write_identification_report,
    )

    check_numbers(replicates=replicates, seed=seed)
    _check_noise("probe", probe_list, probe_noise)
    _check_noise("distractor", distractor_list, distractor_noise)
    wanted, identity = _probes(probes, store, probe_list, probe_noise, labels)
    others = _distractors(
        distractors, wanted.opened, distractor_store, distractor_list, distractor_noise
    )
    described = {"probes": wanted.checked(), "distractors": others.checked()}
    results = {
        name: identify(
            wanted.embedding(name),
            identity,
            others.embedding(name),
            max_rank=max_rank,
            replicates=replicates,
            seed=seed,
        )
        for name in wanted.opened
    }
    notes = _shared(wanted, others)
    write_identification_report(
        out,
        results,
        configuration={
            "protocol": "megaface",
            "replicates": replicates,
            "seed": seed,
            **described,
        },
        notes=notes,
    )
    summaries = [identification_summary(name, result) for name, result in results.items()]
    say(summaries, identification_differences(results), out, notes=notes)


@dataclass(frozen=True, kw_only=True)
class _Photos:
    """Photos of a store that take part, and what each model made of them.

    Attributes:
        images: The store.
        opened: Its embeddings, by the name of the model's probes.
        rows: Rows that take part, shape (K,).
    """

    images: Store
    opened: Mapping[str, Embeddings]
    rows: IntArray

    def checked(self) -> dict[str, dict[str, object]]:
        """Check the embeddings of these photos, and describe them for a report."""
        import numpy as np

        from openmfr.cli.evaluating import checked

        is_used = np.isin(np.arange(len(self.images)), self.rows)
        return checked(self.opened, self.images.column("source"), is_used)

    def embedding(self, name: str) -> FloatArray:
        """Embeddings of these photos, shape (K, D); those of a whole store stay on disk."""
        import numpy as np

        array = self.opened[name].array
        is_whole = np.array_equal(self.rows, np.arange(len(array)))
        return array if is_whole else array[self.rows]


def _check_noise(what: str, photos: Path | None, noise: Path | None) -> None:
    """Refuse a list of noise without the list that it belongs to."""
    from openmfr.errors import UserError

    if noise is not None and photos is None:
        raise UserError(
            where=f"--{what}-noise",
            found=f"{noise} and no --{what}-list",
            allowed="noise of a list that is given",
            next_step=f"give --{what}-list too, or leave the noise out of the labels",
        )


def _probes(
    folders: Sequence[Path],
    store: Path | None,
    photos: Path | None,
    noise: Path | None,
    labels: Path | None,
) -> tuple[_Photos, IntArray]:
    """Open the photos that are looked for, and say who is on each."""
    import numpy as np

    from openmfr.cli.evaluating import named_arrays, open_labels
    from openmfr.evaluation.protocols.photo_lists import read_photo_list

    opened, _, images = named_arrays(folders, store)
    if photos is not None:
        listed = read_photo_list(photos, noise=noise, is_named=True)
        rows = listed.rows(images.column("source"), where=str(photos))
        identity = listed.identity[listed.keep]
    else:
        people = open_labels(labels, images)
        rows = np.flatnonzero(people.keep & (people.identity >= 0))
        identity = people.identity[rows]
    return _Photos(images=images, opened=opened, rows=rows), identity


def _distractors(
    folders: Sequence[Path],
    probes: Mapping[str, Embeddings],
    store: Path | None,
    photos: Path | None,
    noise: Path | None,
) -> _Photos:
    """Open the strangers: of one store, each embedded by the model that embedded the probes.

    Raises:
        UserError: If there are more or fewer folders, or one is of another model or store.
    """
    import numpy as np

    from openmfr.cli.evaluating import open_embeddings
    from openmfr.errors import UserError
    from openmfr.evaluation.checks import check_same_store
    from openmfr.evaluation.protocols.photo_lists import read_photo_list

    if len(folders) != len(probes):
        raise UserError(
            where="--distractors",
            found=f"{len(folders)} folders",
            allowed=f"{len(probes)}: one for each of PROBES, in their order",
            next_step="embed the distractors with each model",
        )
    opened = dict(zip(probes, open_embeddings(folders), strict=True))
    for name, part in opened.items():
        if part.model_fingerprint != probes[name].model_fingerprint:
            raise UserError(
                where=f"--distractors {part.path}",
                found=f"embeddings by model {part.model_fingerprint}",
                allowed=f"those by model {probes[name].model_fingerprint}, as {probes[name].path}",
                next_step="embed both stores with the same checkpoint",
            )
    check_same_store(list(opened.values()))
    images = next(iter(opened.values())).open_store(store)
    rows = np.arange(len(images))
    if photos is not None:
        listed = read_photo_list(photos, noise=noise)
        rows = listed.rows(images.column("source"), where=str(photos))
    return _Photos(images=images, opened=opened, rows=rows)


def _shared(probes: _Photos, distractors: _Photos) -> list[str]:
    """Say how many probes are among their own distractors, if any are."""
    import numpy as np

    both = int(np.intersect1d(probes.rows, distractors.rows).size)
    if not both or probes.images.fingerprint != distractors.images.fingerprint:
        return []
    return [f"{both:,} probes are distractors too: each finds itself before its mates."]
