"""The page that the service serves: files of this package, with headers that keep it to itself.

It loads nothing from elsewhere, runs no script but its own, and may not be framed. Everything that
it shows it asks the API for, with the key that its user types.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from starlette.responses import Response
from starlette.staticfiles import StaticFiles

PAGE: Final = Path(__file__).parent / "page"

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class PageFiles(StaticFiles):
    """The page's files, at "/"."""

    def __init__(self) -> None:
        super().__init__(directory=PAGE, html=True)

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Answer with a file and the headers."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(_HEADERS)
        return response
