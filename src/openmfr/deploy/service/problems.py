"""Every way in which a request can fail: RFC 9457 problems, each of a kind that stays.

Programs decide by `kind`, people read `detail`. A kind is never renamed; the table below is the
whole list, and the documentation of the API is made from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from openmfr.faces.photo import PhotoError

MEDIA_TYPE: Final = "application/problem+json"

#: Kind → status, and what it means.
KINDS: Final[Mapping[str, tuple[int, str]]] = {
    "malformed": (400, "The request is no HTTP or no form that can be read."),
    "no_key": (401, "There is no valid API key: Authorization: Bearer KEY."),
    "foreign_page": (403, "A page of another site asks, or asks under another host's name."),
    "not_found": (404, "There is no such address."),
    "nobody": (404, "Nobody of that name, or no image of that number, is enrolled."),
    "wrong_method": (405, "The address does not know this method."),
    "slow_upload": (408, "The request did not arrive in time."),
    "other_name": (409, "The photo is enrolled under another name."),
    "body_too_large": (413, "The request has more bytes than are taken."),
    "photo_too_large": (413, "The photo has more pixels than are taken."),
    "invalid": (422, "A field is missing, or has a value that is not allowed."),
    "not_calibrated": (
        422,
        "A rate was asked for that has no threshold: there is no calibration, "
        "or it does not reach as far.",
    ),
    "no_face": (422, "No face was found on the photo."),
    "several_faces": (422, "There are several faces where one is asked for."),
    "empty_photo": (422, "The photo has no bytes."),
    "not_a_picture": (422, "The file is no picture of a known format."),
    "damaged_photo": (422, "The picture is damaged or incomplete."),
    "refused": (422, "The face should not be enrolled; `reasons` says why."),
    "too_often": (429, "The key has made too many requests; Retry-After says when to come again."),
    "internal": (500, "An error of the service."),
    "busy": (503, "All places are taken; Retry-After says when to come again."),
    "not_ready": (503, "The service cannot work now."),
    "gallery_unavailable": (503, "The gallery could not be read or written."),
    "timed_out": (504, "The answer took too long; what was asked may still be done."),
}

#: What a photo's error begins with → its kind here.
_OF_PHOTO: Final[Mapping[str, str]] = {
    "no face found": "no_face",
    "several faces": "several_faces",
    "empty file": "empty_photo",
    "not a picture": "not_a_picture",
    "not a photo": "not_a_picture",
    "too large": "photo_too_large",
}

_OF_STATUS: Final[Mapping[int, str]] = {
    400: "malformed",
    404: "not_found",
    405: "wrong_method",
    413: "body_too_large",
}


class Problem(HTTPException):
    """Why a request fails.

    Args:
        kind: One of `KINDS`.
        detail: For a person; by default what the kind means.
        retry_after: Seconds after which to try again.
        more: Further members of the answer.

    Attributes:
        kind: The kind.
    """

    def __init__(
        self,
        kind: str,
        detail: str = "",
        *,
        retry_after: float | None = None,
        **more: Any,
    ) -> None:
        status, meaning = KINDS[kind]
        headers = {}
        if status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        if retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
        super().__init__(status_code=status, detail=detail or meaning, headers=headers)
        self.kind, self.more = kind, more

    def answer(self, request_id: str) -> JSONResponse:
        """Write it down as a response."""
        content = {
            "type": f"urn:openmfr:problem:{self.kind}",
            "title": HTTPStatus(self.status_code).phrase,
            "status": self.status_code,
            "detail": self.detail,
            "kind": self.kind,
            "request_id": request_id,
        }
        return JSONResponse(
            content | self.more,
            status_code=self.status_code,
            headers=dict(self.headers or {}),
            media_type=MEDIA_TYPE,
        )


def of_photo(error: PhotoError, field: str) -> Problem:
    """Say which photo of a request cannot be used, and why.

    Args:
        error: What reading or detection said.
        field: Of the form.

    Example:
        >>> of_photo(PhotoError("no face found: it is dark"), "photo").kind
        'no_face'
    """
    kind = str(error).partition(":")[0]
    if kind in _OF_PHOTO:
        return Problem(_OF_PHOTO[kind], str(error), field=field)
    # What a decoder or a detector says of a strange file is not for strangers.
    return Problem("damaged_photo", field=field)


def of_status(status: int, headers: Mapping[str, str] | None = None) -> Problem:
    """Turn what the framework says into one of ours."""
    problem = Problem(_OF_STATUS.get(status, "malformed"))
    problem.headers = {**(problem.headers or {}), **(headers or {})}
    return problem
