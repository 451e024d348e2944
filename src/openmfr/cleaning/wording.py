"""What cleaning says on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from openmfr.cleaning.changes import DROP, MERGE, MOVE, RETURN, Changes
from openmfr.data.labels import Labels

#: Share of dropped images from which on the network is more likely at fault than the labels.
_TOO_MANY = 0.25


def pass_summary(content: Mapping[str, Any]) -> str:
    """Say what a pass did and where it drew its lines.

    Args:
        content: What `read_pass` returns.

    Returns:
        A few lines.
    """
    counts = content["counts"]
    lines = [
        f"images      {counts['images_before']:,} → {counts['images_after']:,}: "
        f"{counts['dropped']:,} dropped, {counts['moved']:,} moved to another identity",
        f"identities  {counts['identities_before']:,} → {counts['identities_after']:,}: "
        f"{counts['merged']:,} merged into another",
    ]
    lines += [f"  {count:,} × {reason}" for reason, count in content["reasons"].items()]
    thresholds = content["thresholds"]
    intra = thresholds["intra"]
    drop = " and ".join(f"{value:.3f} ({name})" for name, value in intra.items())
    lines.append(f"dropped below {drop}")
    if (curve := thresholds["inter"]) is not None:
        lines.append(f"merged from {curve['chosen']:.2f}{_tried(curve)}")
    if (curve := thresholds["relabel"]) is not None:
        lines.append(_moved(curve))
    share = counts["dropped"] / max(counts["images_before"], 1)
    if share > _TOO_MANY:
        lines.append(
            f"{share:.0%} of the images look like strangers: either the labels are very noisy, or "
            "the network knows too little to clean with; look at the report before you use them"
        )
    return "\n".join(lines)


def _tried(curve: Mapping[str, Any]) -> str:
    """What the chosen threshold of merging did with planted noise."""
    if not curve["is_searched"]:
        return ""
    found, wrong, decisions = _at_chosen(curve)
    return f": of planted splits {found:.1%} rejoined, {wrong:.1%} of {decisions:,} decisions wrong"


def _moved(curve: Mapping[str, Any]) -> str:
    """Where moves begin, and how many of them are expected to be wrong."""
    if not curve["is_searched"]:
        return f"moved from {curve['chosen']:.2f}"
    found, wrong, decisions = _at_chosen(curve)
    if not decisions:
        return (
            "moved none: doubtful images find as much by chance as where they might belong, "
            f"and more than {curve['allowed_wrong']:.0%} of any moves would be wrong"
        )
    return (
        f"moved from {curve['chosen']:.2f}: about {found:.0%} of the images with a home in the "
        f"set, {wrong:.1%} of {decisions:,} moves expected to be wrong"
    )


def _at_chosen(curve: Mapping[str, Any]) -> tuple[float, float, int]:
    at = curve["threshold"].index(curve["chosen"])
    return curve["found"][at], curve["wrong"][at], curve["decisions"][at]


def changes_summary(before: Labels, after: Labels, changes: Changes) -> str:
    """Say what one table changed of another.

    Args:
        before: The first table.
        after: The second.
        changes: From `find_changes`.
    """
    counted = Counter(changes.kind.tolist())
    names = {DROP: "dropped", MOVE: "moved", RETURN: "taken back", MERGE: "merged"}
    done = ", ".join(f"{counted[kind]:,} {name}" for kind, name in names.items() if counted[kind])
    return "\n".join(
        [
            f"images      {int(before.keep.sum()):,} → {int(after.keep.sum()):,}",
            f"identities  {before.kept_identities.size:,} → {after.kept_identities.size:,}",
            f"changes     {done or 'none'}",
            "parent      "
            + (
                "AFTER was made from BEFORE"
                if after.parent == before.fingerprint
                else "AFTER was not made from BEFORE directly"
            ),
        ]
    )
