"""The page of a cleaning pass: what it did, how lines were drawn, its decisions as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from openmfr.cleaning.changes import COLUMNS, DROP, MERGE, MERGED, MOVE
from openmfr.cleaning.clean import CleanResult
from openmfr.cleaning.intra import expect_right_dropped
from openmfr.cleaning.report_pictures import TITLES, DecisionPictures, Group, groups_of
from openmfr.cleaning.thresholds import Curve
from openmfr.data.store import Store
from openmfr.evaluation.wording import percent
from openmfr.evaluation.worst_pairs import WARNING
from openmfr.report import page as html
from openmfr.report.page import Cell, Html, Page, Tile
from openmfr.report.plots import score_histogram, shares_plot

FloatArray = npt.NDArray[np.floating]

_TITLE = "Cleaning pass"
_SAVE_AS = "vetoes.csv"
_NONE = {
    DROP: "No image was dropped.",
    MOVE: "No image was moved to another identity.",
    MERGE: "No identity was merged into another.",
}
_OFF = {
    MOVE: "Images were not moved: that was turned off.",
    MERGE: "Identities were not merged: that was turned off.",
}
_READ = (
    "An image is scored against the centre of its identity's other images. Beside it stand the "
    "kept images of that identity that fit best; none of them moved there in this pass. Framed is "
    "the image that was decided about. Evidence for a move adds up leads of the other identity, "
    "and is no cosine."
)
_REFUSE = (
    "What is wrong can be refused: tick it and save the vetoes, or write “no” into the column "
    "veto of changes.csv, which holds every decision. The next pass over the same table obeys: "
    "openmfr clean pass LABELS EMBEDDINGS OUT --vetoes vetoes.csv"
)


class _Condition(NamedTuple):
    """Faces that have one threshold for being dropped."""

    name: str
    threshold: float
    own: FloatArray
    strangers: FloatArray


class _Trial(NamedTuple):
    """A threshold that was searched for, and what its right and wrong decisions are."""

    name: str
    curve: Curve
    found: str
    wrong: str
    score: str
    told: str


def write_pass_report(
    path: Path,
    result: CleanResult,
    store: Store,
    *,
    pictures: int = 60,
    configuration: Mapping[str, Any],
) -> None:
    """Write the page of a pass: numbers, thresholds and their curves, decisions as pictures.

    Args:
        path: The file, `report.html`.
        result: What was decided.
        store: The images.
        pictures: Decisions that are shown of each kind and reason, the closest first; from 0.
        configuration: What determined the result, nested, as JSON values.
    """
    groups = groups_of(result.changes)
    page = Page(_TITLE, subtitle=_subtitle(result))
    page.section("", html.tiles(_tiles(result)))
    page.section("How the lines were drawn", *_lines(result))
    page.section("Reasons", *_reasons(result, groups))
    if groups and pictures:
        page.section("Decisions", html.note(WARNING), _READ, _REFUSE)
        kinds = {group.title: min(len(group), pictures) for group in groups}
        page.filters(kinds, columns=COLUMNS, save_as=_SAVE_AS)
    drawn = DecisionPictures(result, store)
    is_off = {MOVE: result.relabel is None, MERGE: result.inter is None}
    for kind, title in TITLES.items():
        of_kind = [group for group in groups if group.kind == kind]
        parts: list[Cell] = [part for each in of_kind for part in _shown(each, drawn, pictures)]
        nothing = _OFF[kind] if is_off.get(kind) else _NONE[kind]
        page.section(title, *(parts or [nothing]))
    page.section("Undo", _undo(result))
    page.section("Configuration", html.listing(configuration))
    page.write(path)


def _subtitle(result: CleanResult) -> str:
    before = result.before
    return (
        f"{int(before.keep.sum()):,} images of {before.kept_identities.size:,} identities in table "
        f"{before.fingerprint}"
    )


def _tiles(result: CleanResult) -> list[Tile]:
    before, after, changes = result.before, result.labels, result.changes
    images, people = int(before.keep.sum()), before.kept_identities.size
    dropped, moved, merged = (int((changes.kind == kind).sum()) for kind in (DROP, MOVE, MERGE))
    emptied = people - after.kept_identities.size - merged
    gone = html.join(", ", _count(emptied), " left without an image") if emptied else ""
    return [
        _tile("Images kept", int(after.keep.sum()), "of ", _count(images)),
        _tile(
            "Identities", after.kept_identities.size, "of ", _count(people), "; ", _count(merged),
            " merged into another", gone,
        ),
        _tile("Images dropped", dropped, _share(dropped, images), " of the images"),
        _tile("Images moved", moved, _share(moved, images), " of the images"),
    ]  # fmt: skip


def _tile(label: str, value: int, *note: Cell) -> Tile:
    return Tile(label=label, value=_count(value), note=html.join(*note))


def _count(value: int) -> Html:
    return html.number(int(value), f"{value:,}")


def _share(part: int, whole: int) -> Html:
    return _percent(part / max(whole, 1))


def _percent(value: float) -> Html:
    return html.number(value, percent(value))


def _lines(result: CleanResult) -> list[Cell]:
    """Thresholds: as plots, as a table, and in words where there was nothing to search."""
    conditions, trials = _conditions(result), _trials(result)
    plots = [_histogram(each) for each in conditions if each.own.size and each.strangers.size]
    plots += [_curve_plot(trial) for trial in trials if trial.curve.is_searched]
    given = [trial for trial in trials if not trial.curve.is_searched]
    return [
        html.figures(plots) if plots else "There is nobody to score images against.",
        *(
            f"{trial.name}: the threshold was given, or there were too few images to search for it."
            for trial in given
        ),
        html.table(
            ["Line", "Threshold", "May be wrong", "Found", "Wrong"],
            [*map(_intra_row, conditions), *map(_trial_row, trials)],
            caption="Thresholds, and what they do: to images of other people, to planted splits, "
            "and, as far as chance tells, to doubtful images",
        ),
    ]


def _conditions(result: CleanResult) -> list[_Condition]:
    """Masked and unmasked faces apart where they have thresholds of their own."""
    before, fit = result.before, result.fit
    own = fit.own
    apart = np.unique(fit.threshold[before.keep]).size > 1
    kinds = {"unmasked faces": False, "masked faces": True} if apart else {"": None}
    conditions = []
    for name, kind in kinds.items():
        rows = before.keep & np.isfinite(own.score)
        strangers = own.strangers
        if kind is not None:
            rows &= before.is_masked == kind
            strangers = strangers[own.is_masked_stranger == kind]
        if rows.any():
            threshold = float(fit.threshold[rows][0])
            conditions.append(_Condition(name, threshold, own.score[rows], strangers))
    return conditions


def _trials(result: CleanResult) -> list[_Trial]:
    trials = []
    if result.inter is not None:
        trials.append(
            _Trial(
                "Merge",
                result.inter,
                "planted splits rejoined",
                "wrong merges",
                "score of two centres, corrected for their size",
                "identities were split, and rejoined with each threshold",
            )
        )
    if result.relabel is not None:
        trials.append(
            _Trial(
                "Move",
                result.relabel,
                "images with a home moved",
                "wrong moves",
                "evidence for another identity",
                "expected, from what doubtful images find by chance among the identities to "
                "which they do not belong",
            )
        )
    return trials


def _histogram(condition: _Condition) -> Html:
    of = f" of {condition.name}" if condition.name else ""
    return html.plot(
        score_histogram(
            condition.own,
            condition.strangers,
            thresholds={f"dropped below {condition.threshold:.3f}": condition.threshold},
            names=("own identity", "other identities"),
            salt=f"own-{condition.name.split()[0]}" if condition.name else "own",
        ),
        caption=f"Scores{of} against the centre of their own identity, and of others. What lies "
        "left of the line looks like somebody else. Drawn before identities were merged; after "
        "that the line is drawn anew.",
        alt=f"Histogram of the scores{of} against their own identity and against others",
    )


def _curve_plot(trial: _Trial) -> Html:
    curve = trial.curve
    shown = slice(0, int((curve.decisions > 0).sum()) + 2)
    wrong = np.where(curve.decisions > 0, curve.wrong, np.nan)
    is_drawn = curve.chosen <= curve.threshold[shown][-1]
    drawing = shares_plot(
        curve.threshold[shown],
        {trial.found: curve.found[shown], f"of decisions: {trial.wrong}": wrong[shown]},
        labels=(trial.score, "share"),
        salt=trial.name.lower(),
        marks={f"chosen: {curve.chosen:.2f}": curve.chosen} if is_drawn else {},
    )
    return html.plot(
        drawing,
        caption=f"{trial.name}: {trial.told}. Allowed are {percent(curve.allowed)} wrong decisions"
        + ("." if is_drawn else ": at no threshold are there so few, and nothing is done."),
        alt=f"Shares of {trial.found} and {trial.wrong} over the threshold",
    )


def _intra_row(condition: _Condition) -> list[Cell]:
    name = f"Drop {condition.name}, below" if condition.name else "Drop, below"
    below = (condition.strangers < condition.threshold).mean() if condition.strangers.size else None
    found: Cell = "–"
    wrong: Cell = "–"
    if below is not None:
        found = html.join(_percent(float(below)), " ", html.muted("of strangers"))
        at = np.array([condition.threshold])
        right = expect_right_dropped(condition.own, condition.strangers, at)[0]
        wrong = html.join(_percent(float(right)), " ", html.muted("of the right images, estimated"))
    threshold = html.number(condition.threshold, f"{condition.threshold:.3f}")
    return [name, threshold, "–", found, wrong]


def _trial_row(trial: _Trial) -> list[Cell]:
    curve = trial.curve
    found: Cell = "not searched"
    wrong: Cell = "not searched"
    if curve.is_searched:
        at = int(np.flatnonzero(curve.threshold == curve.chosen)[0])
        found = html.join(_percent(float(curve.found[at])), " ", html.muted(trial.found))
        of = html.join("of ", _count(int(curve.decisions[at])), " decisions")
        wrong = html.join(_percent(float(curve.wrong[at])), " ", html.muted(of))
    threshold = html.number(curve.chosen, f"{curve.chosen:.2f}")
    return [f"{trial.name}, from", threshold, _percent(curve.allowed), found, wrong]


def _reasons(result: CleanResult, groups: Sequence[Group]) -> list[Cell]:
    """How many decisions there are of each kind and reason."""
    if not groups:
        return ["Nothing was changed."]
    whole = int(result.before.keep.sum())
    rows: list[list[Cell]] = []
    for group in groups:
        images = _came_along(result) if group.kind == MERGE else len(group)
        people = np.unique(group.changes.before).size
        rows.append([group.title, _count(people), _count(images), _share(images, whole)])
    return [
        html.table(
            ["Decision", "Identities", "Images", "Share of images"],
            rows,
            caption="Decisions by reason; identities are those that images were dropped from, "
            "moved away from, or that went into another",
        )
    ]


def _came_along(result: CleanResult) -> int:
    """Images that are kept, under another number, as their identity was merged."""
    before, after = result.before, result.labels
    is_renumbered = before.identity != after.identity
    return int((after.keep & is_renumbered & after.reason.startswith(MERGED)).sum())


def _shown(group: Group, drawn: DecisionPictures, most: int) -> list[Html]:
    """The pictures of one group below their heading, and how many there are in all."""
    count, shown = len(group), min(len(group), most)
    one, many = ("identity", "identities") if group.kind == MERGE else ("image", "images")
    first = "closest" if np.isfinite(group.changes.threshold).any() else "first"
    told = f"; all are shown{', the closest first' if first == 'closest' else ''}."
    if shown < count:
        some = f"the {first} {shown:,} shown here" if shown else "none shown here"
        told = f"; {some}, all of them in changes.csv."
    return [
        html.subheading(group.reason[:1].upper() + group.reason[1:]),
        html.paragraph(html.join(_count(count), f" {one if count == 1 else many}", told)),
        *([html.figures(list(drawn.figures(group, most)), kind="decisions")] if shown else []),
    ]


def _undo(result: CleanResult) -> str:
    return (
        f"Nothing was overwritten. The table before, {result.before.fingerprint}, is the parent "
        f"of the one that this pass made, {result.labels.fingerprint}: going back to it undoes all."
    )
