"""The command itself: what it refuses, and how a real process starts, stops, and comes again."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from deploy.service.house import MiddleDetector, encoded
from deploy.service.serving import PATIENCE, Server
from toy_onnx import write_own

from openmfr.cli import main as cli
from openmfr.deploy import runtime
from openmfr.deploy.service import make_key, server
from openmfr.synthetic.identity import make_identity
from openmfr.synthetic.render import render_face

pytest.importorskip("mediapipe", reason="faces in photos are found by MediaPipe")

Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Server] = []
    write_own(tmp_path / "model.onnx")

    def begin(*words: str) -> Server:
        started.append(Server(tmp_path, "model.onnx", "--gallery", "people.db", *words))
        return started[-1]

    yield begin
    for one in started:
        one.close()


def portrait(person: int, shot: int = 0) -> bytes:
    rng = np.random.default_rng([person, shot])
    return encoded(render_face(make_identity(0, person), rng=rng, size=240).image, "JPEG")


def client(running: Server, key: str = "") -> httpx2.Client:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.Client(base_url=running.url, headers=headers, timeout=PATIENCE)


def enrol(to: httpx2.Client, name: str, photo: bytes) -> httpx2.Response:
    data = {"identity": name, "force": "true"}
    return to.post("/v1/enrol", files={"photo": photo}, data=data)


def names(to: httpx2.Client) -> list[str]:
    return [person["identity"] for person in to.get("/v1/people").json()["people"]]


def begin_upload(running: Server, name: str, photo: bytes) -> tuple[socket.socket, bytes]:
    """Send an enrolment but for its last bytes, which are returned."""
    request = httpx2.Request(
        "POST",
        f"{running.url}/v1/enrol",
        files={"photo": photo},
        data={"identity": name, "force": "true"},
    )
    body = request.read()
    lines = [f"{key}: {value}" for key, value in request.headers.items()]
    head = "\r\n".join(["POST /v1/enrol HTTP/1.1", *lines, "", ""]).encode()
    connection = socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE)
    connection.sendall(head + body[:-20])
    return connection, body[-20:]


def refuses(running: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", running.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.slow
def test_a_stop_finishes_what_was_accepted_and_people_are_there_afterwards(start: Start) -> None:
    running = start("--timeout-s", "60")
    with client(running) as to:
        assert enrol(to, "ann", portrait(1)).status_code == 201
        assert enrol(to, "ben", portrait(2)).status_code == 201
        found = to.post("/v1/search", files={"photo": portrait(1, 1)}).json()
        assert {one["identity"] for one in found["candidates"]} == {"ann", "ben"}
        assert to.post("/v1/search", files={"photo": b"?"}).status_code == 422
    connection, rest = begin_upload(running, "eve", portrait(3))
    with connection:
        with client(running) as to:  # the upload has been taken up when its place is
            while "openmfr_places_taken 1.0" not in to.get("/v1/metrics").text:
                time.sleep(0.05)
        running.tell(signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while not refuses(running):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert running.process.poll() is None
        connection.sendall(rest)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 201 "), answer[:200]
    assert running.wait() == 0
    assert "POST /v1/enrol 201" in running.log
    for name in ("ann", "eve", "Traceback"):
        assert name not in running.log
    again = start()
    with client(again) as to:
        assert names(to) == ["ann", "ben", "eve"]
        assert to.delete("/v1/people/ben").status_code == 200
    assert again.stop(signal.SIGINT) == 0
    with client(start()) as to:
        assert names(to) == ["ann", "eve"]


@pytest.mark.slow
def test_what_was_acknowledged_survives_a_kill(start: Start) -> None:
    running = start()
    with client(running) as to:
        assert enrol(to, "ann", portrait(1)).status_code == 201
    running.stop(signal.SIGKILL)
    with client(start()) as to:
        assert names(to) == ["ann"]


@pytest.mark.slow
def test_bytes_that_are_no_http_and_bodies_without_end_leave_it_alive(
    start: Start, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "keys.json", "door")
    running = start("--keys", "keys.json", "--max-mib", "1")
    for content in (
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0" * 100_000,
    ):
        with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                assert connection.recv(65536)[:10] in (b"", b"HTTP/1.1 4")
    endless = (
        f"POST /v1/verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    part = b'40\r\n--x\r\nContent-Disposition: form-data; name="first"; filename=a\r\n\r\n\r\n'
    with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(endless + part)
            for _ in range(40):
                connection.sendall(chunk)
        answer = connection.recv(65536)
    assert answer[:13] in (b"HTTP/1.1 413 ", b"HTTP/1.1 400 "), answer
    with client(running, key) as to:
        assert to.get("/v1/ready").status_code == 200
    assert running.stop() == 0


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The command in this process, up to where it would serve."""
    write_own(tmp_path / "model.onnx")
    monkeypatch.setitem(cli.VERBS, "serve", "a service")
    monkeypatch.setattr(runtime, "_own_detector", MiddleDetector)

    def run_nothing(
        _: object, bound: socket.socket, *, started: Callable[[], None], **__: object
    ) -> None:
        with bound:
            started()

    monkeypatch.setattr(server, "run", run_nothing)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> int:
        return cli.main(["serve", "model.onnx", *words])

    return run


def test_it_says_where_it_listens(
    serve: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve("--port", "0") == 0
    said = capsys.readouterr()
    assert "openmfr serves model.onnx at http://127.0.0.1:" in said.out
    assert "warning" not in said.err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "faces.example"])
def test_a_public_address_without_keys_is_refused(
    serve: Callable[..., int], capsys: pytest.CaptureFixture[str], host: str
) -> None:
    assert serve("--host", host) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "--keys keys.json" in said.err
    assert not said.out


def test_a_public_address_with_keys_is_served_with_a_warning(
    serve: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    make_key(tmp_path / "keys.json", "door")
    assert serve("--host", "0.0.0.0", "--port", "0", "--keys", "keys.json") == 0
    assert "TLS" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--keys", "none.json"],
        ["--gallery", "people.db"],  # no key in the environment
        ["--calibration", "none"],
        ["--places", "0"],
        ["--host", "localhost", "--port", "70000"],
    ],
)
def test_mistakes_are_one_line_each(
    serve: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    monkeypatch.delenv("OPENMFR_GALLERY_KEY", raising=False)
    assert serve(*words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_port_that_is_taken_is_named(
    serve: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert serve("--port", str(port)) == 2
    assert str(port) in capsys.readouterr().err
