"""Who is let in, how often, with how much, for how long; and what is said to those who are not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from deploy.service.conftest import Open
from deploy.service.house import MAX_PIXELS, House, photo
from deploy.service.test_api import enrol, problem, verify
from starlette.testclient import TestClient

from openmfr.deploy.service import KeyRing, ServiceConfig, make_app, make_key
from openmfr.deploy.service.description import describe
from openmfr.deploy.service.keys import remove_key
from openmfr.deploy.service.problems import KINDS
from openmfr.deploy.service.rate import RateLimit


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Every method and address that the description has."""
    service = House(tmp_path_factory.mktemp("described")).service()
    described = describe(make_app(service))
    assert service.gallery is not None
    service.gallery.close()
    return [
        (method.upper(), path) for path, methods in described["paths"].items() for method in methods
    ]


def test_no_address_but_health_answers_without_a_key(
    open_service: Open, operations: list[tuple[str, str]]
) -> None:
    keys, key = open_service.house.keys()
    client = open_service(keys=keys)
    assert len(operations) == 12
    for method, path in operations:
        where = path.format(identity="ann", image_id=1)
        for headers in (
            {},
            bearer(""),
            bearer(key[:-1]),
            bearer(key + "0"),
            bearer(key.replace("omfr", "xxxx")),
            bearer("omfr__"),
            bearer("omfr_00000000_" + "0" * 64),
            {"Authorization": f"Basic {key}"},
            {"Authorization": key},
            {"X-API-Key": key},
        ):
            answer = client.request(method, where, headers=headers)
            if path == "/v1/health":
                assert answer.json() == {"status": "alive"}
                continue
            assert problem(answer)["kind"] == "no_key", (method, path, headers)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert client.request(method, where, headers=bearer(key)).status_code != 401


def test_a_key_in_the_address_is_no_key(open_service: Open) -> None:
    keys, key = open_service.house.keys()
    client = open_service(keys=keys)
    assert client.get("/v1/about", params={"key": key, "api_key": key}).status_code == 401


def test_a_stranger_is_refused_before_the_body_is_read(open_service: Open) -> None:
    keys, _ = open_service.house.keys()
    client = open_service(ServiceConfig(max_body_mib=0.01), keys=keys)
    assert problem(client.post("/v1/verify", content=bytes(2**20)))["kind"] == "no_key"


def test_keys_that_are_added_and_removed_count_at_once(open_service: Open) -> None:
    house = open_service.house
    keys, key = house.keys("door")
    client = open_service(keys=keys)
    other = make_key(house.folder / "keys.json", "gate")
    assert client.get("/v1/about", headers=bearer(other)).status_code == 200
    remove_key(house.folder / "keys.json", "door")
    assert client.get("/v1/about", headers=bearer(key)).status_code == 401
    assert client.get("/v1/about", headers=bearer(other)).status_code == 200
    (house.folder / "keys.json").write_text("{}")
    assert client.get("/v1/about", headers=bearer(other)).status_code == 401


def test_each_key_has_its_own_rate(open_service: Open) -> None:
    house = open_service.house
    first, second = make_key(house.folder / "k", "one"), make_key(house.folder / "k", "two")
    client = open_service(ServiceConfig(rate=1e-3, burst=2), keys=KeyRing(house.folder / "k"))
    for _ in range(2):
        assert client.get("/v1/about", headers=bearer(first)).status_code == 200
    refused = client.get("/v1/about", headers=bearer(first))
    assert problem(refused)["kind"] == "too_often"
    assert 990 <= int(refused.headers["Retry-After"]) <= 1000
    assert client.get("/v1/about", headers=bearer(second)).status_code == 200
    assert client.get("/v1/health").status_code == 200


def test_a_bucket_refills_at_its_rate() -> None:
    now = 0.0
    limit = RateLimit(rate=4, burst=3, clock=lambda: now)
    assert [limit.take("a") for _ in range(4)] == [0, 0, 0, 0.25]
    now = 0.25
    assert [limit.take("a"), limit.take("a")] == [0, 0.25]
    now = 100.0
    assert sum(limit.take("a") == 0 for _ in range(10)) == 3


def chunks(total: int) -> Iterator[bytes]:
    for _ in range(total // 1000):
        yield bytes(1000)


def test_a_body_is_not_longer_than_allowed_whatever_it_says(open_service: Open) -> None:
    client = open_service(ServiceConfig(max_body_mib=0.05))
    small = photo(1, size=16)
    assert verify(client, small, small).status_code == 200
    large = photo(1, size=200)
    assert problem(verify(client, large, large))["kind"] == "body_too_large"
    head = b'--x\r\nContent-Disposition: form-data; name="first"; filename="a"\r\n\r\n'

    def unannounced() -> Iterator[bytes]:
        yield head
        yield from chunks(1_000_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post("/v1/verify", content=unannounced(), headers=headers)
    assert "content-length" not in answer.request.headers
    assert problem(answer)["kind"] == "body_too_large"
    told = {"Content-Length": "9" * 5000, "Content-Type": "multipart/form-data; boundary=x"}
    assert problem(client.post("/v1/verify", headers=told))["kind"] == "body_too_large"


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def taken(client: TestClient) -> int:
    (line,) = [
        line
        for line in client.get("/v1/metrics").text.splitlines()
        if line.startswith("openmfr_places_taken ")
    ]
    return int(float(line.split()[1]))


def test_when_all_places_are_taken_others_are_told_to_come_again(open_service: Open) -> None:
    house = open_service.house
    client = open_service(ServiceConfig(places=3, rate=1e6, burst=10**6, workers=1))
    house.detector.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(verify, client, photo(n), photo(n, 1)) for n in range(3)]
        until(lambda: taken(client) == 3)
        refused = verify(client, photo(1), photo(1))
        assert problem(refused)["kind"] == "busy"
        assert refused.headers["Retry-After"] == "1"
        assert problem(client.get("/v1/people"))["kind"] == "busy"
        for watched in ("health", "ready", "metrics", "about"):
            assert client.get(f"/v1/{watched}").status_code == 200
        house.detector.gate.set()
        assert [one.result().status_code for one in asked] == [200, 200, 200]
    assert taken(client) == 0
    assert verify(client, photo(1), photo(1)).status_code == 200


def test_who_waits_too_long_is_told_and_what_runs_on_still_takes_a_place(
    open_service: Open,
) -> None:
    house = open_service.house
    client = open_service(ServiceConfig(places=2, workers=1, timeout_s=0.2))
    house.detector.gate.clear()
    assert problem(verify(client, photo(1), photo(1)))["kind"] == "timed_out"
    assert taken(client) == 1
    assert problem(verify(client, photo(1), photo(1)))["kind"] == "timed_out"
    assert house.detector.seen == 1, "what was not begun was dropped"
    house.detector.gate.set()
    until(lambda: taken(client) == 0)
    assert house.detector.seen == 1


def test_a_service_whose_jobs_never_end_is_not_ready(open_service: Open) -> None:
    house = open_service.house
    client = open_service(ServiceConfig(places=1, workers=1, timeout_s=0.2))
    house.detector.gate.clear()
    assert problem(verify(client, photo(1), photo(1)))["kind"] == "timed_out"
    assert problem(client.get("/v1/ready"))["kind"] == "not_ready"
    house.detector.gate.set()
    until(lambda: client.get("/v1/ready").status_code == 200)


def test_an_upload_that_does_not_end_is_told_so(open_service: Open) -> None:
    """Straight to the application: a client in this process sends all of its body at once."""
    import asyncio

    app = open_service(ServiceConfig(timeout_s=0.2)).app
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": "POST",
        "path": "/v1/verify",
        "query_string": b"",
        "headers": [
            (b"host", b"127.0.0.1"),
            (b"content-type", b"multipart/form-data; boundary=x"),
        ],
    }
    sent = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> None:
        await app(scope, receive, send)

    asyncio.run(ask())
    assert sent[0]["status"] == 408
    assert b"slow_upload" in sent[1]["body"]


@pytest.mark.parametrize(
    ("headers", "is_welcome"),
    [
        ({}, True),
        ({"Origin": "http://127.0.0.1:8000"}, True),
        ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, True),
        ({"Host": "[::1]:8000"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://127.0.0.1:9999"}, False),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, False),
        ({"Host": "evil.example"}, False),
        ({"Host": "[", "Origin": "http://["}, False),
    ],
)
def test_without_keys_pages_of_other_sites_are_refused(
    client: TestClient, headers: dict[str, str], is_welcome: bool
) -> None:
    answer = client.get("/v1/people", headers=headers)
    if is_welcome:
        assert answer.status_code == 200
    else:
        assert problem(answer)["kind"] == "foreign_page"


def test_with_keys_the_host_is_whatever_the_proxy_says(open_service: Open) -> None:
    keys, key = open_service.house.keys()
    client = open_service(keys=keys)
    headers = bearer(key) | {"Host": "faces.example", "Origin": "https://page.example"}
    answer = client.get("/v1/about", headers=headers)
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_log_has_templates_and_no_names(
    open_service: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    client = open_service()
    files = {"photo": ("holiday.png", photo(1))}
    client.post("/v1/enrol", files=files, data={"identity": "annabel"})
    client.get("/v1/people/annabel")
    client.delete("/v1/people/annabel")
    client.get("/annabel")
    client.request("ANNABEL", "/v1/annabel")
    enrol(client, 1, identity="annabel ")
    ours = [r.getMessage() for r in caplog.records if r.name.startswith(("openmfr", "uvicorn"))]
    text = "\n".join(ours)
    assert "GET /v1/people/{identity:path} 200" in text
    assert "POST /v1/enrol 201" in text
    assert len(ours) == 6
    metrics = client.get("/v1/metrics").text
    for told in (text, metrics):
        assert "annabel" not in told.lower()
        assert "holiday" not in told
    assert 'route="/v1/people/{identity:path}",status="200"' in metrics
    assert 'method="other",route="unknown"' in metrics


def test_metrics_are_those_of_prometheus(client: TestClient) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    verify(client, photo(1), photo(2))
    answer = client.get("/v1/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = {family.name: family for family in text_string_to_metric_families(answer.text)}
    faces = {s.name: s.value for s in found["openmfr_batch_faces"].samples}
    assert faces["openmfr_batch_faces_sum"] == 2
    assert found["openmfr_places"].samples[0].value == 32
    assert "process_resident_memory_bytes" in found


def test_answers_are_not_kept_by_anybody(client: TestClient) -> None:
    headers = client.get("/v1/people").headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "server" not in headers


def test_the_description_names_every_kind_and_has_only_ours(client: TestClient) -> None:
    described = client.get("/v1/openapi.json").json()
    assert all(f"`{kind}`" in described["info"]["description"] for kind in KINDS)
    assert "HTTPValidationError" not in str(described)
    for path, methods in described["paths"].items():
        for operation in methods.values():
            assert operation["summary"]
            assert operation["description"]
            secured = operation.get("security")
            assert bool(secured) == (path != "/v1/health")


def test_limits_are_checked_together() -> None:
    from openmfr.errors import UserError

    with pytest.raises(UserError, match=r"service\.places.*\n.*service\.rate"):
        ServiceConfig(places=0, rate=float("nan"))
    assert ServiceConfig().worker_count >= 1
    assert ServiceConfig(max_pixels=MAX_PIXELS).max_body == 20 * 2**20


def test_a_broken_gallery_is_no_error_of_the_caller(client: TestClient) -> None:
    from openmfr.errors import UserError

    def fail(*_: object, **__: object) -> None:
        raise UserError(where="people.db", found="disk is full", allowed="room", next_step="clean")

    service = client.app.state.gatekeeper.service  # type: ignore[attr-defined]
    service.gallery.store.add = fail
    answer = enrol(client, 1)
    assert problem(answer)["kind"] == "gallery_unavailable"
    assert answer.headers["Retry-After"] == "1"
    assert "people.db" not in answer.text


def test_importing_the_service_imports_no_torch() -> None:
    import subprocess
    import sys

    run = subprocess.run(
        [sys.executable, "-c", "import without_torch, openmfr.deploy.service"],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
