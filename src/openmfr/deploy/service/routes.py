"""The addresses: what comes in, which part of the service answers, what goes out."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response, Security
from fastapi.security import HTTPBearer

from openmfr.deploy.gallery import Gallery, Image, Person
from openmfr.deploy.service.answers import (
    AboutAnswer,
    Alive,
    EnrolAnswer,
    FaceAnswer,
    ImageAnswer,
    ImagesAnswer,
    PeopleAnswer,
    PersonAnswer,
    Ready,
    RemovedAnswer,
    SearchAnswer,
    ThresholdAnswer,
    VerifyAnswer,
)
from openmfr.deploy.service.forms import (
    PHOTO_KINDS,
    After,
    Fmr,
    Fpir,
    Identity,
    ImageId,
    IsForced,
    IsMasked,
    PageSize,
    Photo,
    Top,
    bytes_of,
    failing,
    limit_of,
    service_of,
    source_of,
)
from openmfr.deploy.service.guard import GuardedRoute, HouseRoute, OpenRoute
from openmfr.deploy.service.metrics import Metrics
from openmfr.deploy.service.problems import Problem
from openmfr.evaluation.calibration import Calibration
from openmfr.version import __version__

#: Says in OpenAPI how a key is shown; the guard is what looks at it.
_bearer = Security(
    HTTPBearer(auto_error=False, description="An API key that `openmfr key new` made.")
)

#: Rates of the scale that `about` gives.
_DECADES = tuple(10.0**-n for n in range(1, 9))

open_routes = APIRouter(prefix="/v1", route_class=OpenRoute, tags=["house"])
house = APIRouter(prefix="/v1", route_class=HouseRoute, tags=["house"], dependencies=[_bearer])
faces = APIRouter(prefix="/v1", route_class=GuardedRoute, tags=["faces"], dependencies=[_bearer])
people = APIRouter(prefix="/v1", route_class=GuardedRoute, tags=["people"], dependencies=[_bearer])


@open_routes.get("/health", summary="Is it alive?", operation_id="health")
async def health() -> Alive:
    """Answers whenever the process does; needs no key, and tells nothing."""
    return Alive()


@house.get("/ready", summary="Can it work?", operation_id="ready", responses=failing("not_ready"))
async def ready(request: Request) -> Ready:
    """Asks the gallery, if there is one. For load balancers."""
    await service_of(request).check()
    return Ready()


@house.get(
    "/metrics",
    summary="Figures for Prometheus",
    operation_id="metrics",
    response_class=Response,
    responses=failing()
    | {200: {"description": "Counts and times.", "content": {"text/plain": {}}}},
)
async def metrics(request: Request) -> Response:
    """Counts and times, in Prometheus' text format; nothing about anybody's face or name."""
    return Response(service_of(request).metrics.text(), media_type=Metrics.media_type)


@house.get(
    "/openapi.json",
    summary="This description",
    operation_id="openapi",
    responses=failing(),
)
async def openapi(request: Request) -> dict[str, Any]:
    """The description of the API."""
    described: dict[str, Any] = request.app.openapi()
    return described


@house.get(
    "/about",
    summary="What is it?",
    operation_id="about",
    responses=failing("gallery_unavailable"),
)
async def about(request: Request) -> AboutAnswer:
    """Model, limits, and what scores mean: thresholds on the scale of false match rates."""
    service = service_of(request)
    images = 0 if service.gallery is None else await service.on_gallery(len)
    calibration = service.meaning.calibration
    return AboutAnswer(
        version=__version__,
        model=service.recognizer.model.fingerprint,
        embedding_dim=service.recognizer.model.embedding_dim,
        has_gallery=service.gallery is not None,
        images=images,
        max_body=service.config.max_body,
        max_pixels=service.config.max_pixels,
        thresholds=_scale(calibration) if calibration is not None else {},
    )


@faces.post(
    "/verify",
    summary="Compare two faces",
    operation_id="verify",
    responses=failing(*PHOTO_KINDS, "not_calibrated"),
)
async def verify(
    request: Request,
    first: Photo,
    second: Photo,
    first_masked: IsMasked = None,
    second_masked: IsMasked = None,
    fmr: Fmr = None,
) -> VerifyAnswer:
    """Score the largest central faces of two photos; with a calibration, say what it means."""
    one, other, read = await service_of(request).verify(
        await bytes_of(first),
        await bytes_of(second),
        first_masked=first_masked,
        second_masked=second_masked,
        fmr=fmr,
    )
    return VerifyAnswer.of(one, other, read)


@people.post(
    "/enrol",
    summary="Enrol somebody",
    operation_id="enrol",
    status_code=201,
    responses=failing(*PHOTO_KINDS, "several_faces", "refused", "other_name", "gallery_unavailable")
    | {200: {"description": "The same photo was enrolled before.", "model": EnrolAnswer}},
)
async def enrol(
    request: Request,
    response: Response,
    photo: Photo,
    identity: Identity,
    masked: IsMasked = None,
    force: IsForced = False,
) -> EnrolAnswer:
    """Enrol the face of a photo. When the answer comes, it is on the disk.

    The photo shows one face, large and sharp, that resembles the person's other images and nobody
    else more; what does not is refused with the reasons. The same photo is enrolled once, so a
    request whose answer was lost can be repeated. The photo itself is not kept.
    """
    seen, added = await service_of(request).enrol(
        await bytes_of(photo),
        identity=identity,
        source=source_of(photo),
        is_masked=masked,
        force=force,
    )
    if not added.is_new:
        response.status_code = 200
    return EnrolAnswer(
        is_new=added.is_new, image=ImageAnswer.of(added.image), face=FaceAnswer.of(seen)
    )


@people.post(
    "/search",
    summary="Who is it?",
    operation_id="search",
    responses=failing(*PHOTO_KINDS, "not_calibrated", "gallery_unavailable"),
)
async def search(
    request: Request,
    photo: Photo,
    masked: IsMasked = None,
    top: Top = 10,
    fmr: Fmr = None,
    fpir: Fpir = None,
) -> SearchAnswer:
    """Find the people whom the largest central face of a photo resembles most."""
    service = service_of(request)
    seen, found = await service.search(
        await bytes_of(photo), is_masked=masked, top=top, limit=limit_of(fmr, fpir)
    )
    return SearchAnswer.of(seen, found, images=await service.on_gallery(len))


@people.get(
    "/people",
    summary="Who is enrolled?",
    operation_id="list_people",
    responses=failing("invalid", "gallery_unavailable"),
)
async def list_people(request: Request, after: After = "", limit: PageSize = 100) -> PeopleAnswer:
    """List people by name, a page at a time."""
    listed: list[Person] = await service_of(request).on_gallery(Gallery.people)
    rest = [person for person in listed if person.identity > after]
    page = rest[:limit]
    return PeopleAnswer(
        people=[PersonAnswer.of(person) for person in page],
        total=len(listed),
        next_after=page[-1].identity if len(rest) > limit else None,
    )


@people.get(
    "/people/{identity:path}",
    summary="A person's images",
    operation_id="list_images",
    responses=failing("nobody", "gallery_unavailable"),
)
async def list_images(request: Request, identity: str) -> ImagesAnswer:
    """List what is enrolled of somebody. Photos and embeddings are not given out."""
    listed = await service_of(request).on_gallery(lambda gallery: gallery.images(identity))
    if not listed:
        raise Problem("nobody")
    return ImagesAnswer(identity=identity, images=[ImageAnswer.of(image) for image in listed])


@people.delete(
    "/people/{identity:path}",
    summary="Remove somebody",
    operation_id="remove_person",
    responses=failing("nobody", "gallery_unavailable"),
)
async def remove_person(request: Request, identity: str) -> RemovedAnswer:
    """Remove a person with all images, for good."""

    def remove(gallery: Gallery) -> list[Image]:
        if not gallery.images(identity):
            raise Problem("nobody")
        return gallery.remove(identity=identity)

    removed = await service_of(request).on_gallery(remove)
    return RemovedAnswer(removed=[ImageAnswer.of(image) for image in removed])


@people.delete(
    "/images/{image_id}",
    summary="Remove an image",
    operation_id="remove_image",
    responses=failing("invalid", "nobody", "gallery_unavailable"),
)
async def remove_image(request: Request, image_id: ImageId) -> RemovedAnswer:
    """Remove one image, for good."""

    def remove(gallery: Gallery) -> list[Image]:
        if image_id not in gallery.store.image_ids():
            raise Problem("nobody")
        return gallery.remove(image_id=image_id)

    removed = await service_of(request).on_gallery(remove)
    return RemovedAnswer(removed=[ImageAnswer.of(image) for image in removed])


def _scale(calibration: Calibration) -> dict[str, list[ThresholdAnswer]]:
    """Thresholds at 10 %, 1 %, … as far as the calibration reaches, by condition."""
    return {
        name: [
            ThresholdAnswer(fmr=fmr, score=condition.reaching(fmr).score)
            for fmr in _DECADES
            if condition.reaches(fmr)
        ]
        for name, condition in calibration.conditions.items()
    }
