"""What callers get: faces compared, people enrolled, found and removed; and problems of a kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from deploy.service.conftest import Open
from deploy.service.house import FLAT, encoded, photo, picture
from httpx2 import Response
from starlette.testclient import TestClient

from openmfr.deploy.service import ServiceConfig
from openmfr.deploy.service.problems import KINDS, MEDIA_TYPE


def problem(response: Response) -> dict[str, Any]:
    """The problem that a response is; all of them look the same."""
    assert response.headers["Content-Type"] == MEDIA_TYPE
    content: dict[str, Any] = response.json()
    assert content["status"] == response.status_code == KINDS[content["kind"]][0]
    assert content["request_id"] == response.headers["X-Request-Id"]
    assert content["type"].endswith(content["kind"])
    assert content["title"]
    assert content["detail"]
    return content


def enrol(client: TestClient, person: int, image: int = 0, **fields: Any) -> Response:
    return client.post(
        "/v1/enrol",
        files={"photo": (f"{person}-{image}.png", photo(person, image))},
        data={"identity": f"person {person}"} | fields,
    )


def search(client: TestClient, person: int, image: int = 9, **fields: Any) -> Response:
    return client.post("/v1/search", files={"photo": photo(person, image)}, data=fields)


def verify(client: TestClient, first: bytes, second: bytes, **fields: Any) -> Response:
    return client.post("/v1/verify", files={"first": first, "second": second}, data=fields)


def test_photos_of_one_person_score_higher_than_of_two(client: TestClient) -> None:
    same = verify(client, photo(1, 0), photo(1, 1)).json()
    other = verify(client, photo(1, 0), photo(2, 0)).json()
    assert same["score"] > 0.8 > 0.5 > other["score"]
    assert (same["fmr"], same["threshold"], same["is_match"]) == (None, None, None)
    assert verify(client, photo(1), photo(1)).json()["score"] == pytest.approx(1)


def test_the_face_is_described_in_pixels_of_the_photo(client: TestClient) -> None:
    wide = np.pad(picture(1, size=100), ((0, 0), (50, 50), (0, 0)))
    face = verify(client, encoded(wide), photo(1, faces=2)).json()
    first, second = face["first"], face["second"]
    assert first["box"] == [50, 0, 150, 100]
    assert (first["width"], first["height"], first["others"]) == (200, 100, 0)
    assert second["others"] == 1
    assert np.shape(first["landmarks"]) == (5, 2)
    assert first["quality"]["size"] == pytest.approx(100)
    assert first["quality"]["score"] == 0.9
    assert "embedding" not in json.dumps(face)


def test_a_calibration_says_what_a_score_means(open_service: Open) -> None:
    client = open_service(is_calibrated=True)
    same = verify(client, photo(1), photo(1, 1), fmr="0.01", second_masked="true").json()
    other = verify(client, photo(1), photo(2), fmr="0.01").json()
    assert (same["condition"], other["condition"]) == ("mu", "uu")
    assert same["is_match"]
    assert same["fmr"] < 0.01 <= other["fmr"]
    assert not other["is_match"]
    assert other["score"] < other["threshold"]
    assert problem(verify(client, photo(1), photo(1), fmr="1e-12"))["kind"] == "not_calibrated"
    scale = client.get("/v1/about").json()["thresholds"]["uu"]
    assert [step["fmr"] for step in scale][:3] == [0.1, 0.01, 0.001]
    assert scale[1]["score"] == other["threshold"]


def test_a_rate_without_a_calibration_is_refused_before_the_photos_are_read(
    open_service: Open,
) -> None:
    client = open_service()
    found = problem(verify(client, photo(1), photo(1), fmr="0.01"))
    assert found["kind"] == "not_calibrated"
    assert "openmfr evaluate calibration" in found["detail"]
    assert open_service.house.detector.seen == 0
    assert problem(search(client, 1, fpir="0.01"))["kind"] == "not_calibrated"
    both = problem(search(client, 1, fpir="0.01", fmr="0.1"))
    assert both["kind"] == "invalid"


def test_who_is_enrolled_is_found_with_rates(open_service: Open) -> None:
    client = open_service(is_calibrated=True)
    for person in (1, 2, 3):
        assert enrol(client, person).status_code == 201
    found = search(client, 2, top="2", fpir="0.05").json()
    assert found["images"] == 3
    assert len(found["candidates"]) == 2
    best, next_best = found["candidates"]
    assert best["identity"] == "person 2"
    assert best["is_match"]
    assert not next_best["is_match"]
    assert best["fmr"] <= best["fpir"] < 0.05 < next_best["fpir"]


def test_a_photo_is_enrolled_once_and_under_one_name(client: TestClient) -> None:
    first, again = enrol(client, 1), enrol(client, 1)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["is_new"]
    assert not again.json()["is_new"]
    assert first.json()["image"] == again.json()["image"]
    assert first.json()["image"]["source"] == "1-0.png"
    assert problem(enrol(client, 1, identity="somebody else"))["kind"] == "other_name"


def test_the_gate_says_why_it_refuses_and_can_be_forced(client: TestClient) -> None:
    enrol(client, 1)
    refused = problem(enrol(client, 1, 1, identity="somebody else"))
    assert refused["kind"] == "refused"
    assert "resembles person 1" in refused["reasons"][0]
    assert enrol(client, 1, 1, identity="somebody else", force="true").status_code == 201
    several = {"photo": photo(5, faces=2)}
    assert (
        problem(client.post("/v1/enrol", files=several, data={"identity": "eve"}))["kind"]
        == "several_faces"
    )


def test_people_are_listed_by_pages_and_removed_for_good(client: TestClient) -> None:
    for person in range(5):
        enrol(client, person)
    enrol(client, 4, 1, masked="true")
    page = client.get("/v1/people", params={"limit": 3}).json()
    names = [person["identity"] for person in page["people"]]
    assert (names, page["total"]) == (["person 0", "person 1", "person 2"], 5)
    rest = client.get("/v1/people", params={"after": page["next_after"]}).json()
    assert [(p["identity"], p["images"], p["masked"]) for p in rest["people"]] == [
        ("person 3", 1, 0),
        ("person 4", 2, 1),
    ]
    assert rest["next_after"] is None
    images = client.get("/v1/people/person 4").json()["images"]
    gone = client.delete(f"/v1/images/{images[0]['image_id']}").json()["removed"]
    assert gone == images[:1]
    assert client.delete("/v1/people/person 4").json()["removed"] == images[1:]
    assert problem(client.delete("/v1/people/person 4"))["kind"] == "nobody"
    assert problem(client.get("/v1/people/person 4"))["kind"] == "nobody"
    assert problem(client.delete("/v1/images/99"))["kind"] == "nobody"
    best = search(client, 4).json()["candidates"][0]
    assert best["score"] < 0.5


@pytest.mark.parametrize("name", ["a/b", "Zoë Ünal", "50 %", "a?b#c", "人"])
def test_names_of_all_kinds_survive_addresses(client: TestClient, name: str) -> None:
    from urllib.parse import quote

    assert enrol(client, 1, identity=name).status_code == 201
    where = f"/v1/people/{quote(name, safe='')}"
    assert client.get(where).json()["identity"] == name
    assert client.delete(where).json()["removed"][0]["identity"] == name


@pytest.mark.parametrize("name", ["", " ann", "a\nb", "x" * 201])
def test_odd_names_are_refused_without_being_repeated_as_fields(
    client: TestClient, name: str
) -> None:
    assert problem(enrol(client, 1, identity=name))["kind"] == "invalid"
    assert client.get("/v1/people").json()["total"] == 0


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (FLAT, "no_face"),
        (b"", "empty_photo"),
        (b"GIF89a and no more", "not_a_picture"),
        (b"<svg onload=alert(1)>", "not_a_picture"),
        (photo(1)[:2000], "damaged_photo"),
        (encoded(np.zeros((1001, 1000, 3), np.uint8)), "photo_too_large"),
    ],
)
@pytest.mark.parametrize("field", ["first", "second"])
def test_a_photo_that_cannot_be_used_says_why_and_which(
    client: TestClient, content: bytes, kind: str, field: str
) -> None:
    other = "second" if field == "first" else "first"
    found = problem(client.post("/v1/verify", files={field: content, other: photo(1)}))
    assert (found["kind"], found["field"]) == (kind, field)


def test_missing_and_misspelt_fields_are_named_and_not_echoed(client: TestClient) -> None:
    found = problem(client.post("/v1/verify", files={"first": photo(1)}))
    assert found["kind"] == "invalid"
    assert found["errors"] == ["second: Field required"]
    secret = problem(verify(client, photo(1), photo(2), fmr="my secret"))
    assert secret["errors"][0].startswith("fmr: ")
    assert "my secret" not in json.dumps(secret)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("application/json", b"{}"),
        ("application/x-www-form-urlencoded", b"first=1"),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"--x\r\nnothing"),
        ("multipart/form-data; boundary=x; charset=rot13", b"--x\r\n\r\n\r\n--x--"),
        ("text/plain", photo(1)),
    ],
)
def test_what_is_no_form_is_malformed(client: TestClient, content: str, kind: bytes) -> None:
    response = client.post("/v1/verify", content=kind, headers={"Content-Type": content})
    assert problem(response)["kind"] in ("malformed", "invalid")
    assert response.status_code in (400, 422)


def test_a_form_has_few_parts(client: TestClient) -> None:
    many = [("first", photo(1)), ("second", photo(1)), ("third", photo(1))]
    assert problem(client.post("/v1/verify", files=many))["kind"] == "malformed"
    long = verify(client, photo(1), photo(1), note="x" * 5000)
    assert problem(long)["kind"] == "malformed"


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        (lambda client: client.get("/v1/nothing"), "not_found"),
        (lambda client: client.get("/"), "not_found"),
        (lambda client: client.get("/docs"), "not_found"),
        (lambda client: client.get("/openapi.json"), "not_found"),
        (lambda client: client.put("/v1/verify"), "wrong_method"),
    ],
)
def test_unknown_addresses_and_methods_are_problems_too(
    client: TestClient, ask: Callable[[TestClient], Response], kind: str
) -> None:
    assert problem(ask(client))["kind"] == kind


def test_without_a_gallery_photos_can_only_be_compared(open_service: Open) -> None:
    client = open_service(has_gallery=False, is_calibrated=True)
    assert verify(client, photo(1), photo(1), fmr="0.01").json()["is_match"]
    assert problem(enrol(client, 1))["kind"] == "not_found"
    assert "/v1/enrol" not in client.get("/v1/openapi.json").json()["paths"]
    about = client.get("/v1/about").json()
    assert not about["has_gallery"]
    assert about["model"] == open_service.house.model.fingerprint


def test_a_photo_never_touches_the_disk(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "TemporaryFile", None)  # what a spooled file would become
    large = photo(1, size=900)
    assert len(large) > 2**20
    assert verify(client, large, large).status_code == 200


def test_the_page_beside_it_is_for_all_and_the_rest_is_not(open_service: Open) -> None:
    keys, _ = open_service.house.keys()
    client = open_service(ServiceConfig(), keys=keys, has_page=True)
    assert client.get("/").headers["Content-Type"].startswith("text/html")
    assert problem(client.get("/..%2fserver.py"))["kind"] == "not_found"
    assert problem(client.get("/v1/people"))["kind"] == "no_key"
    assert client.get("/v1/health").status_code == 200


def test_an_error_of_ours_is_a_problem_that_tells_nothing(
    client: TestClient, open_service: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("ann's embedding is 0.1, 0.2")

    open_service.house.detector.detect = fail  # type: ignore[method-assign,assignment]
    assert problem(verify(client, photo(1), photo(1)))["kind"] == "damaged_photo"
    service = client.app.state.gatekeeper.service  # type: ignore[attr-defined]
    service.meaning = None
    found = problem(client.get("/v1/about"))
    assert found["kind"] == "internal"
    assert "AttributeError" in caplog.text
    assert "ann" not in caplog.text


class SeesMasks:
    """Takes a face whose mean is above that of grey for a masked one."""

    def worn(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        is_bright = np.array([face.mean() > 128 for face in faces])
        return is_bright.astype(np.float32)


def test_masks_are_looked_for_unless_the_caller_says(open_service: Open) -> None:
    client = open_service(is_calibrated=True)
    assert verify(client, photo(1), photo(2)).json()["first"]["mask_worn"] is None
    service = client.app.state.gatekeeper.service  # type: ignore[attr-defined]
    service._masks = SeesMasks()
    bright = encoded(np.clip(picture(1).astype(int) + 60, 0, 255).astype(np.uint8))
    dark = encoded(picture(2) // 2)
    seen = verify(client, bright, dark).json()
    assert (seen["first"]["mask_worn"], seen["second"]["mask_worn"]) == (1, 0)
    assert seen["condition"] == "mu"
    assert verify(client, bright, dark, first_masked="false").json()["condition"] == "uu"
    files, data = {"photo": bright}, {"identity": "ann"}
    assert client.post("/v1/enrol", files=files, data=data).json()["image"]["is_masked"]
    assert (
        client.post("/v1/search", files={"photo": dark}).json()["candidates"][0]["condition"]
        == "mu"
    )
