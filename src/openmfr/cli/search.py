"""`openmfr search WHAT`: finding networks, and scaling them; each part is a module of its own."""

from __future__ import annotations

#: WHAT → what goes in and what comes out; `openmfr.cli.search_WHAT` has its `main`.
PARTS: dict[str, str] = {
    "run": "a store, its labels and a space → the best architectures, and a report",
    "scale": "an architecture and a target → the same, larger or smaller",
}

#: The help ends with it.
EXAMPLE = "openmfr search run faces found --target-macs 30e6"
