"""What the service answers with: these classes make the descriptions in OpenAPI."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from openmfr.deploy.gallery import Candidate, Image, Person
from openmfr.deploy.service.service import SeenFace

Rate = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[float, Field(ge=-1, le=1, description="Cosine of two embeddings.")]


class Answer(BaseModel):
    """Common to all: nothing that is not described."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ProblemAnswer(BaseModel):
    """Why a request failed (RFC 9457). Programs decide by `kind`."""

    type: str = Field(examples=["urn:openmfr:problem:no_face"])
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    detail: str = Field(description="For a person.")
    kind: str = Field(description="Stays the same over versions.", examples=["no_face"])
    request_id: str = Field(description="Stands in the log, too.")
    field: str = Field(default="", description="Of the form, where one is to blame.")
    reasons: list[str] = Field(default=[], description="Of a refused enrolment.")
    errors: list[str] = Field(default=[], description="Of fields that are not allowed.")


class Alive(Answer):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(Answer):
    """The service can work."""

    status: Literal["ready"] = "ready"


class QualityAnswer(Answer):
    """How well a face can be seen. None of it is a probability that recognition works."""

    size: float = Field(description="Edge of the face in pixels of the photo.")
    sharpness: Rate = Field(description="How much a blur would take away.")
    yaw: float = Field(description="Degrees turned aside, to the right of the picture positive.")
    roll: float = Field(description="Degrees turned in the picture, clockwise positive.")
    score: float = Field(description="The detector's confidence, 0–1.")
    length: float = Field(description="Of the embedding; larger where the network is surer.")


class FaceAnswer(Answer):
    """The face of a photo: the largest central one."""

    box: Annotated[list[float], Field(min_length=4, max_length=4)] = Field(
        description="Left, top, right, bottom, in pixels of the upright photo; may reach beyond it."
    )
    landmarks: Annotated[
        list[Annotated[list[float], Field(min_length=2, max_length=2)]],
        Field(min_length=5, max_length=5),
    ] = Field(description="Eyes, nose, corners of the mouth, as one sees them, left before right.")
    width: int = Field(description="Of the upright photo.")
    height: int = Field(description="Of the upright photo.")
    others: int = Field(description="How many more faces the photo shows.")
    mask_worn: Rate | None = Field(
        description="How probably it wears a mask; null if the service does not look."
    )
    note: str = Field(description="What a person should know about how it was found.")
    quality: QualityAnswer

    @classmethod
    def of(cls, seen: SeenFace) -> FaceAnswer:
        """Describe a face. Its embedding stays here."""
        face, quality = seen.face, seen.face.quality
        return cls(
            box=[float(edge) for edge in face.box],
            landmarks=face.landmarks.tolist(),
            width=seen.width,
            height=seen.height,
            others=seen.others,
            mask_worn=face.mask_worn,
            note=face.note,
            quality=QualityAnswer(
                size=quality.size,
                sharpness=quality.sharpness,
                yaw=quality.yaw,
                roll=quality.roll,
                score=quality.score,
                length=quality.length,
            ),
        )


class Meant(Answer):
    """What a score means; without a calibration only the score is known."""

    score: Score
    condition: str = Field(description="uu, mu, mm: how many of the two faces wear masks; or all.")
    fmr: Rate | None = Field(description="How often two strangers score as high.")
    flag: str = Field(description="Why the rates must not be trusted; empty if they were measured.")
    threshold: float | None = Field(description="Score that a match needs, at the rate asked for.")
    is_match: bool | None = Field(description="Whether it reaches it; null if no rate was asked.")


class VerifyAnswer(Meant):
    """How much the faces of two photos resemble each other."""

    first: FaceAnswer
    second: FaceAnswer

    @classmethod
    def of(cls, first: SeenFace, second: SeenFace, read: Candidate) -> VerifyAnswer:
        """Describe a comparison."""
        return cls(
            **_meant(read).model_dump(),
            first=FaceAnswer.of(first),
            second=FaceAnswer.of(second),
        )


class CandidateAnswer(Meant):
    """Somebody whom a face resembles."""

    identity: str
    image_id: int = Field(description="Which of their images counts.")
    fpir: Rate | None = Field(
        description="How often somebody who is not enrolled would find anybody in this gallery."
    )


class SearchAnswer(Answer):
    """Whom a face resembles, the likeliest first."""

    images: int = Field(description="That were searched.")
    candidates: list[CandidateAnswer]
    face: FaceAnswer

    @classmethod
    def of(cls, seen: SeenFace, found: list[Candidate], *, images: int) -> SearchAnswer:
        """Describe a search."""
        candidates = [
            CandidateAnswer(
                **_meant(one).model_dump(),
                identity=one.identity,
                image_id=one.image_id,
                fpir=one.fpir,
            )
            for one in found
        ]
        return cls(images=images, candidates=candidates, face=FaceAnswer.of(seen))


class ImageAnswer(Answer):
    """An enrolled image. The photo itself is not kept."""

    image_id: int
    identity: str
    is_masked: bool
    source: str = Field(description="What the photo was called.")
    added_at: str = Field(description="UTC, ISO 8601.")

    @classmethod
    def of(cls, image: Image) -> ImageAnswer:
        """Describe an image."""
        return cls(
            image_id=image.image_id,
            identity=image.identity,
            is_masked=image.is_masked,
            source=image.source,
            added_at=image.added_at,
        )


class EnrolAnswer(Answer):
    """What became of a photo."""

    is_new: bool = Field(description="False if the same photo was enrolled before.")
    image: ImageAnswer
    face: FaceAnswer


class PersonAnswer(Answer):
    """Somebody who is enrolled."""

    identity: str
    images: int
    masked: int = Field(description="How many of the images wear a mask.")
    last_added_at: str

    @classmethod
    def of(cls, person: Person) -> PersonAnswer:
        """Describe a person."""
        return cls(
            identity=person.identity,
            images=person.images,
            masked=person.masked,
            last_added_at=person.last_added_at,
        )


class PeopleAnswer(Answer):
    """A page of who is enrolled, by name."""

    people: list[PersonAnswer]
    total: int = Field(description="People who are enrolled.")
    next_after: str | None = Field(description="Give it as `after` for the next page.")


class ImagesAnswer(Answer):
    """A person's images."""

    identity: str
    images: list[ImageAnswer]


class RemovedAnswer(Answer):
    """What was removed, for good."""

    removed: list[ImageAnswer]


class ThresholdAnswer(Answer):
    """A score on the scale of false match rates."""

    fmr: Rate
    score: float


class AboutAnswer(Answer):
    """What this service is."""

    version: str
    model: str = Field(description="The model's fingerprint.")
    embedding_dim: int
    has_gallery: bool
    images: int = Field(description="That are enrolled.")
    max_body: int = Field(description="Bytes of the largest request.")
    max_pixels: int = Field(description="Of the largest photo.")
    thresholds: dict[str, list[ThresholdAnswer]] = Field(
        description="By condition, from frequent to rare false matches; empty if not calibrated."
    )


def _meant(read: Candidate) -> Meant:
    return Meant(
        score=min(1.0, max(-1.0, read.score)),  # rounded rows can be a hair longer than 1
        condition=read.condition,
        fmr=read.fmr,
        flag=read.flag,
        threshold=read.threshold,
        is_match=read.is_match,
    )
