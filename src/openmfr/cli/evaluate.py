"""`openmfr evaluate PROTOCOL`: embeddings → rates with intervals, and a report.

Each protocol is a module of its own, `openmfr.cli.evaluate_PROTOCOL`.
"""

from __future__ import annotations

#: PROTOCOL → what it compares; `openmfr.cli.evaluate_PROTOCOL` has its `main`.
PARTS: dict[str, str] = {
    "pairs": "a list of pairs: LFW, CFP-FP, AgeDB-30, CALFW, CPLFW, RFW, your own",
    "identities": "pairs sampled from the identities that labels keep",
    "all": "every image with every other, exactly; masked with unmasked ones, and by group",
    "calibration": "what a score means: its false match rate; thresholds for galleries",
    "ijb": "IJB-B and IJB-C, templates against templates",
    "megaface": "a person's other photo found among strangers",
    "webface260m": "the challenge's WebFace260M track: MFR and SFR, All, Wild and Controlled",
    "insightface": "the challenge's InsightFace track: Mask, Children, four groups, MR-All",
}

#: The help ends with it.
EXAMPLE = "openmfr evaluate pairs lfw-embeddings --pairs pairs.csv --out lfw-report"
