"""Files that nobody should send: each gets an answer of a documented kind, and nothing breaks."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from deploy.service import malformed as made
from deploy.service.conftest import Open
from deploy.service.house import encoded, picture
from deploy.service.malformed import KINDS, malformed
from deploy.service.serving import PATIENCE, Server
from deploy.service.test_api import problem
from toy_onnx import write_own

from openmfr.deploy.service.screening import check_format
from openmfr.faces.photo import MAX_PASSES, PhotoError

#: What may be answered to a photo of any kind.
ALLOWED = {
    "no_face",
    "empty_photo",
    "not_a_picture",
    "damaged_photo",
    "photo_too_large",
    "malformed",
    "invalid",
}


def answered(client: httpx2.Client, number: int) -> str:
    """Send a file and return the kind of problem, or "seen"."""
    answer = client.post("/v1/search", files={"photo": malformed(number)})
    if answer.status_code == 200:
        return "seen"
    kind = str(problem(answer)["kind"])
    assert kind in ALLOWED, f"{number}: {KINDS[number % len(KINDS)].__name__}: {kind}"
    return kind


def test_some_hundred_malformed_pictures_are_answered(open_service: Open) -> None:
    client = open_service()
    counts = Counter(answered(client, number) for number in range(20 * len(KINDS)))
    assert {"seen", "not_a_picture", "damaged_photo", "photo_too_large", "no_face"} <= set(counts)
    assert client.get("/v1/ready").status_code == 200


@pytest.mark.slow
def test_ten_thousand_malformed_pictures_leave_the_process_as_it_was(tmp_path: Path) -> None:
    pytest.importorskip("mediapipe", reason="faces in photos are found by MediaPipe")
    write_own(tmp_path / "model.onnx")
    words = ("--gallery", "people.db", "--rate", "100000", "--timeout-s", "60")
    server = Server(tmp_path, "model.onnx", *words)
    try:
        with httpx2.Client(base_url=server.url, timeout=PATIENCE) as client:
            with ThreadPoolExecutor(2) as pool:
                counts = Counter(pool.map(lambda n: answered(client, n), range(10_000)))
            assert client.get("/v1/ready").status_code == 200
            assert "openmfr_places_taken 0.0" in client.get("/v1/metrics").text
        assert sum(counts.values()) == 10_000
        assert "Traceback" not in server.log
        assert server.stop() == 0
    finally:
        server.close()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF"])
def test_what_browsers_show_is_opened(kind: str) -> None:
    check_format(encoded(picture(1), kind))


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "JPEG2000"])
def test_other_formats_are_not(kind: str) -> None:
    with pytest.raises(PhotoError, match="not a picture"):
        check_format(encoded(picture(1), kind))


def test_a_jpeg_of_more_passes_than_anybody_writes_is_refused_before_a_face_is_looked_for(
    open_service: Open,
) -> None:
    client = open_service()
    whole = made._good("JPEG", 1)
    start = whole.rindex(b"\xff\xda")
    bomb = whole[:-2] + whole[start:-2] * MAX_PASSES + whole[-2:]
    answer = client.post("/v1/search", files={"photo": ("a.jpg", bomb)})
    assert problem(answer)["kind"] == "damaged_photo"
    assert open_service.house.detector.seen == 0
