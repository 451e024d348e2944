"""`openmfr clean WHAT`: everything that mends labels; each part is a module of its own."""

from __future__ import annotations

#: WHAT → what goes in and what comes out; `openmfr.cli.clean_WHAT` has its `main`.
PARTS: dict[str, str] = {
    "pass": "labels and embeddings → cleaned labels, every decision, a page of pictures",
    "rounds": "a recipe, a store and labels → train, embed, clean, and again while it helps",
    "diff": "two tables of labels → what the second changed of the first",
    "plant": "labels → the same with known noise, to try a cleaning on",
    "judge": "a cleaned table and the truth → how much of the planted noise was found",
}

#: The help ends with it.
EXAMPLE = "openmfr clean pass faces/labels.parquet embeddings cleaned"
