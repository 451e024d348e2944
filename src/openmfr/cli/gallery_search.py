"""`openmfr gallery search`: a photo → the people whom it resembles."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from openmfr.cli.recognizing import Declared, Runtime, open_model

if TYPE_CHECKING:
    from openmfr.deploy.gallery import Candidate


def main(
    gallery: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="GALLERY")],
    photo: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PHOTO")],
    *,
    model: Path,
    top: int = 10,
    masked: tyro.conf.FlagCreatePairsOff[bool] = False,
    bare: tyro.conf.FlagCreatePairsOff[bool] = False,
    calibration: Path | None = None,
    fmr: float | None = None,
    fpir: float | None = None,
    keep_index: bool = False,
    encryption: bool = True,
    declared: Declared = None,
    runtime: Runtime = "onnxruntime",
    json: bool = False,
) -> None:
    """Find the people whom the face of a photo resembles most; of several faces the largest.

    With a calibration each score is also said as rates: how often two strangers score as high
    (FMR), and how often somebody who is not enrolled would find anybody in this gallery (FPIR).
    With --fmr or --fpir a verdict is given.

    Example: openmfr gallery search people.db door.jpg --model model.onnx

    With a verdict: openmfr gallery search people.db door.jpg --model model.onnx --calibration
    calibrated --fpir 0.01

    Args:
        gallery: File, or postgresql:// URL of a database.
        photo: Whose face is searched for.
        model: ONNX file that the gallery was made with.
        top: How many people to show.
        masked: The face wears a mask; by default it is looked at.
        bare: It wears none.
        calibration: What openmfr evaluate calibration wrote of this model.
        fmr: Call a match what two strangers reach at most this often.
        fpir: Call a match what lets at most this share of strangers find anybody.
        keep_index: Keep the index for the next search, memory-mapped: of an encrypted gallery in
            /dev/shm, of another beside it.
        encryption: With --no-encryption a gallery without encryption is opened although there is a
            key.
        declared: For a model that openmfr did not write: COLOR,MEAN,STD, such as RGB,127.5,127.5,
            or a JSON file.
        runtime: What runs the network; openvino must be installed.
        json: Print it as JSON.
    """
    from openmfr.deploy.gallery import GalleryConfig, Limit, open_gallery, read_key
    from openmfr.deploy.mask_worn import MaskClassifier, is_worn, said_of_masks
    from openmfr.deploy.runtime import Recognizer
    from openmfr.errors import UserError
    from openmfr.faces.photo import PhotoError

    said = said_of_masks(masked=masked, bare=bare)
    limit = None if fmr is None and fpir is None else Limit(fmr=fmr, fpir=fpir)
    opened = open_gallery(
        gallery,
        key=read_key(),
        allow_plain=not encryption,
        calibration=calibration,
        config=GalleryConfig(keep_index=keep_index),
    )
    recognizer = Recognizer(
        open_model(model, declared=declared, runtime=runtime),
        masks=MaskClassifier() if said is None else None,
    )
    opened.check_model(recognizer.model.fingerprint)
    try:
        face = recognizer.embed(photo)
    except PhotoError as error:
        raise UserError(
            where=str(photo),
            found=str(error),
            allowed="a photo with a face",
            next_step="take another one",
        ) from error
    is_masked = is_worn(face.mask_worn, said=said)
    found = opened.search(face.embedding, is_masked=is_masked, top=top, limit=limit)
    if json:
        about: dict[str, object] = {"photo": str(photo), "gallery": gallery, "images": len(opened)}
        about |= {"is_masked": is_masked, "mask_worn": face.mask_worn}
        print(json_format.dumps(about | {"candidates": [asdict(one) for one in found]}))
    else:
        _print(photo, len(opened), found, is_masked=is_masked)
    opened.close()


def _print(photo: Path, images: int, found: list[Candidate], *, is_masked: bool) -> None:
    mask = ", a masked face" if is_masked else ""
    print(f"{photo}{mask}: searched {images:,} image{'' if images == 1 else 's'}")
    width = max((len(one.identity) for one in found), default=0)
    for rank, one in enumerate(found, start=1):
        line = f"{rank:3}  {one.identity:<{width}}  score {one.score:.3f} ({one.condition})"
        if one.fmr is not None and one.fpir is not None:
            most = "≤ " if one.flag.startswith("at most") else ""
            line += f"  FMR {most}{one.fmr:.2g}  FPIR {most}{one.fpir:.2g}"
        if one.is_match is not None:
            line += "  match" if one.is_match else "  no match"
        print(line)
    for flag in dict.fromkeys(one.flag for one in found if one.flag):
        print(f"note: {flag}")
    if not found:
        print("nobody is enrolled")
