"""`openmfr serve`: a model, and a gallery if there is one → a REST service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro

from openmfr.cli.recognizing import Declared, Runtime, open_model


def main(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    *,
    gallery: str | None = None,
    calibration: Path | None = None,
    keys: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    places: int = 32,
    workers: int = 0,
    rate: float = 50.0,
    timeout_s: float = 10.0,
    max_mib: float = 20.0,
    max_megapixels: float = 25.0,
    encryption: bool = True,
    declared: Declared = None,
    runtime: Runtime = "onnxruntime",
) -> None:
    """Answer over HTTP: compare two photos, enrol people, search for them.

    GET /v1/openapi.json describes it. Without --keys it listens only where this machine alone can
    reach it. SIGTERM or Ctrl-C stops it: what was accepted is finished, nothing new is taken.

    Example: openmfr serve model.onnx --gallery people.db

    For others: openmfr key new keys.json --name door, then openmfr serve model.onnx --gallery
    people.db --keys keys.json --host 0.0.0.0, behind a proxy that speaks TLS.

    Args:
        model: ONNX file.
        gallery: File, which is made if it is not there, or postgresql:// URL of a database. Without
            one, photos can only be compared.
        calibration: What openmfr evaluate calibration wrote of this model; without it there are no
            false match rates.
        keys: File of API keys; openmfr key new makes it.
        host: Address to listen at.
        port: 0 takes any that is free.
        places: Requests that are in the house at once; more are told to come again.
        workers: Photos that are searched for faces at once; 0: one for each CPU.
        rate: Requests a second that each key may make in the long run; twice as many at once.
        timeout_s: Seconds that a request may take.
        max_mib: Largest request, in MiB.
        max_megapixels: Largest photo, in millions of pixels.
        encryption: With --no-encryption a gallery without encryption is made or opened.
        declared: For a model that openmfr did not write: COLOR,MEAN,STD, such as RGB,127.5,127.5,
            or a JSON file.
        runtime: What runs the network; openvino must be installed.
    """
    from openmfr.deploy.gallery import make_gallery, read_key
    from openmfr.deploy.gallery.opening import read_calibration
    from openmfr.deploy.mask_worn import MaskClassifier
    from openmfr.deploy.runtime import Recognizer
    from openmfr.deploy.service import KeyRing, Service, ServiceConfig, make_app, server
    from openmfr.deploy.service.guard import is_of_this_machine

    server.check_exposure(host, has_keys=keys is not None)
    config = ServiceConfig(
        places=places,
        workers=workers,
        rate=rate,
        burst=max(1, round(2 * rate)),
        timeout_s=timeout_s,
        max_body_mib=max_mib,
        max_pixels=round(max_megapixels * 1e6),
    )
    ring = KeyRing(keys) if keys is not None else None
    recognizer = Recognizer(
        open_model(model, declared=declared, runtime=runtime),
        detectors=config.worker_count,
        max_pixels=config.max_pixels,
    )
    opened = None
    if gallery is not None:
        opened = make_gallery(
            gallery,
            model=recognizer.model.fingerprint,
            dim=recognizer.model.embedding_dim,
            key=read_key(),
            allow_plain=not encryption,
            calibration=calibration,
        )
    service = Service(
        recognizer,
        gallery=opened,
        calibration=read_calibration(calibration),
        masks=MaskClassifier(),
        config=config,
    )
    if not is_of_this_machine(host):
        print(
            "warning: what is sent here is not encrypted; put a proxy that speaks TLS before it",
            file=sys.stderr,
        )
    service.warm_up()
    bound = server.bind(host, port)
    where = server.address_of(bound)

    def tell() -> None:
        print(f"openmfr serves {model} at {where}; {where}/v1/openapi.json describes it")
        sys.stdout.flush()

    server.run(
        make_app(service, keys=ring, has_page=True), bound, patience=timeout_s + 5, started=tell
    )
