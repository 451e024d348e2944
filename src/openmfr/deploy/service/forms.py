"""What requests bring: photos, and the few fields beside them; how they are checked."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any

from fastapi import File, Form, Path, Query, Request, UploadFile

from openmfr.deploy.gallery import Limit
from openmfr.deploy.gallery.records import MAX_IDENTITY
from openmfr.deploy.service.guard import Gatekeeper
from openmfr.deploy.service.problems import KINDS, MEDIA_TYPE, Problem
from openmfr.deploy.service.service import Service

#: Where the description of problems stands in OpenAPI's.
PROBLEM_SCHEMA = "#/components/schemas/ProblemAnswer"

_PHOTO = "A picture of any common format, with one large face."

Photo = Annotated[UploadFile, File(description=_PHOTO)]
IsMasked = Annotated[
    bool | None,
    Form(description="Whether the face wears a mask; if it is not said, the service looks."),
]
IsForced = Annotated[
    bool,
    Form(description="Enrol what the gate would refuse; of several faces the largest central one."),
]
Identity = Annotated[
    str,
    Form(min_length=1, max_length=MAX_IDENTITY, description="Who it is.", examples=["ann"]),
]
Fmr = Annotated[
    float | None,
    Form(
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="Call a match what two strangers reach at most this often; needs a "
        "calibration.",
    ),
]
Fpir = Annotated[
    float | None,
    Form(
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="Call a match what lets at most this share of strangers find anybody; needs a "
        "calibration.",
    ),
]
Top = Annotated[int, Form(ge=1, le=100, description="How many people to find.")]
ImageId = Annotated[int, Path(ge=1, le=2**63 - 1, description="An image's number.")]
After = Annotated[str, Query(max_length=MAX_IDENTITY, description="Begin after this name.")]
PageSize = Annotated[int, Query(ge=1, le=1000, description="How many people to list.")]


def service_of(request: Request) -> Service:
    """Find the service that a request is for."""
    gatekeeper: Gatekeeper = request.app.state.gatekeeper
    return gatekeeper.service


async def bytes_of(photo: UploadFile) -> bytes:
    """Take a photo's bytes; they are in memory already."""
    return await photo.read()


def limit_of(fmr: float | None, fpir: float | None) -> Limit | None:
    """Say what a match is.

    Raises:
        Problem: "invalid", if both rates are given.
    """
    if fmr is not None and fpir is not None:
        raise Problem("invalid", "give fmr or fpir, not both", errors=["fmr, fpir: both given"])
    return None if fmr is None and fpir is None else Limit(fmr=fmr, fpir=fpir)


def source_of(photo: UploadFile) -> str:
    """What to call an enrolled photo: the file's name, if it is a plain one.

    Example:
        >>> source_of(UploadFile(None, filename="C:/pictures/ann.jpg"))
        'ann.jpg'
    """
    name = PurePath((photo.filename or "").replace("\\", "/")).name
    return name if name.isprintable() and len(name) <= MAX_IDENTITY else ""


def failing(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """Describe for OpenAPI how a route can fail.

    Args:
        kinds: Of its own; those that every guarded route has are added.
    """
    common = ("no_key", "foreign_page", "too_often", "busy", "internal", "slow_upload", "timed_out")
    described: dict[int | str, dict[str, Any]] = {}
    for kind in sorted({*kinds, *common}, key=lambda kind: (KINDS[kind][0], kind)):
        status, meaning = KINDS[kind]
        entry = described.setdefault(
            status,
            {
                "description": "",
                "content": {MEDIA_TYPE: {"schema": {"$ref": PROBLEM_SCHEMA}}},
            },
        )
        entry["description"] += f"`{kind}`: {meaning}\n\n"
    for entry in described.values():
        entry["description"] = entry["description"].strip()
    for status in (429, 503):
        described[status]["headers"] = {
            "Retry-After": {
                "description": "Seconds after which to try again.",
                "schema": {"type": "integer", "minimum": 1},
            }
        }
    return described


#: How a photo can fail.
PHOTO_KINDS = (
    "malformed",
    "body_too_large",
    "invalid",
    "no_face",
    "empty_photo",
    "not_a_picture",
    "damaged_photo",
    "photo_too_large",
)
