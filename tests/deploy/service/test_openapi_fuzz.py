"""Schemathesis makes requests out of the API's own description and checks what comes back.

Which answers are allowed, of what type and of what shape, is said in the description; a server
error, an undocumented status or a body of another shape fails. Draws are the same in every run.
Bytes of chance are hardly ever a photo, so half of the requests get real ones.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import uvicorn
from deploy.service.house import House, photo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openmfr.deploy.service import make_app
from openmfr.deploy.service.server import address_of, bind

schemathesis = pytest.importorskip("schemathesis")

pytestmark = pytest.mark.slow

#: Requests for each operation and mode: by the description, and against it.
_EXAMPLES = 60
_PHOTOS = ("photo", "first", "second")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """Where a service with three people listens, and the header that lets one in."""
    house = House(tmp_path_factory.mktemp("fuzzed"))
    keys, key = house.keys()
    bound = bind("127.0.0.1", 0)
    app = make_app(house.service(is_calibrated=True), keys=keys)
    server = uvicorn.Server(uvicorn.Config(app, http="h11", log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    headers = {"Authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=address_of(bound), headers=headers, timeout=60) as client:
        for person in range(3):
            files, data = {"photo": photo(person)}, {"identity": f"person {person}"}
            assert client.post("/v1/enrol", files=files, data=data).status_code == 201
    yield address_of(bound), headers
    server.should_exit = True
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_what_the_description_says_is_true(service: tuple[str, dict[str, str]], mode: str) -> None:
    where, headers = service
    schema = schemathesis.openapi.from_url(f"{where}/v1/openapi.json", headers=headers)
    statuses: Counter[tuple[str, int]] = Counter()
    checks = schemathesis.checks
    # Bytes that fit the description need not be a picture. Text in a form that does not fit ("yes"
    # for a boolean) can be read all the same, and so can a request with a field too many.
    excluded = [checks.positive_data_acceptance, checks.negative_data_rejection]

    def attack(operation: Any) -> None:
        @settings(
            max_examples=_EXAMPLES,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(
            case=operation.as_strategy(generation_mode=schemathesis.GenerationMode[mode]),
            person=st.one_of(st.none(), st.integers(0, 5)),
            image=st.integers(0, 2**32),
        )
        def ask(case: Any, person: int | None, image: int) -> None:
            if person is not None and isinstance(case.body, dict):
                case.body |= {name: photo(person, image) for name in _PHOTOS if name in case.body}
                if "identity" in case.body:  # else the gate refuses nearly all, with reason
                    case.body["force"] = "true"
            answer = case.call_and_validate(headers=headers, excluded_checks=excluded, timeout=60)
            statuses[operation.label, answer.status_code] += 1

        ask()

    for result in schema.get_all_operations():
        operation = result.ok()
        takes_something = operation.body or operation.path_parameters or operation.query
        if mode == "POSITIVE" or takes_something:  # elsewhere nothing can be wrong
            attack(operation)
    assert not [status for _, status in statuses if status >= 500]
    if mode == "POSITIVE":
        for expected in ("POST /v1/verify", "POST /v1/search", "GET /v1/people"):
            assert statuses[expected, 200] > 0
        assert statuses["POST /v1/enrol", 201] + statuses["POST /v1/enrol", 200] > 0
