"""`openmfr gallery add`: photos → enrolled people."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from openmfr.cli.recognizing import Declared, Runtime, open_model

if TYPE_CHECKING:
    from openmfr.deploy.gallery import Gallery
    from openmfr.deploy.runtime import Recognizer

#: Exit code when a photo was refused.
EXIT_REFUSED = 1


def main(
    gallery: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="GALLERY")],
    photos: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PHOTOS")],
    *,
    model: Path,
    identity: str | None = None,
    masked: tyro.conf.FlagCreatePairsOff[bool] = False,
    bare: tyro.conf.FlagCreatePairsOff[bool] = False,
    force: bool = False,
    calibration: Path | None = None,
    encryption: bool = True,
    declared: Declared = None,
    runtime: Runtime = "onnxruntime",
) -> None:
    """Enrol people in a gallery, which is made if it is not there.

    Each photo shows one face, large and sharp, that resembles the person's other images and nobody
    else more; what does not is refused with the reason. A photo that is enrolled already is left
    alone, so the command can be repeated. Embeddings are encrypted with OPENMFR_GALLERY_KEY.

    Example: openmfr gallery add people.db ann.jpg --identity ann --model model.onnx

    A folder for each person: openmfr gallery add people.db photos --model model.onnx

    Exit code 0 if every photo is enrolled, 1 if one was refused, 2 for a mistake.

    Args:
        gallery: File, or postgresql:// URL of a database (not encrypted at rest).
        photos: A photo; a folder of one person's photos, with --identity; or a folder with one
            folder of photos for each person.
        model: ONNX file. A gallery holds embeddings of one model.
        identity: Who is on the photos.
        masked: The faces wear masks; by default each is looked at.
        bare: They wear none.
        force: Enrol what the gate would refuse; of several faces the largest central one.
        calibration: What openmfr evaluate calibration wrote of this model; it tells the gate which
            scores are a coincidence.
        encryption: With --no-encryption a gallery is made that everybody can read.
        declared: For a model that openmfr did not write: COLOR,MEAN,STD, such as RGB,127.5,127.5,
            or a JSON file.
        runtime: What runs the network; openvino must be installed.
    """
    from openmfr.deploy.gallery import make_gallery, read_key
    from openmfr.deploy.mask_worn import MaskClassifier, said_of_masks
    from openmfr.deploy.runtime import Recognizer

    is_masked = said_of_masks(masked=masked, bare=bare)
    found = _photos(photos, identity)
    recognizer = Recognizer(
        open_model(model, declared=declared, runtime=runtime),
        masks=MaskClassifier() if is_masked is None else None,
    )
    opened = make_gallery(
        gallery,
        model=recognizer.model.fingerprint,
        dim=recognizer.model.embedding_dim,
        key=read_key(),
        allow_plain=not encryption,
        calibration=calibration,
    )
    counts = {"added": 0, "known": 0, "refused": 0}
    for name, path in found:
        done = _add(opened, recognizer, name, path, is_masked=is_masked, force=force)
        counts[done] += 1
    opened.close()
    if len(found) > 1:
        print(f"{gallery}: " + ", ".join(f"{count:,} {what}" for what, count in counts.items()))
    if counts["refused"]:
        raise SystemExit(EXIT_REFUSED)


def _add(
    gallery: Gallery,
    recognizer: Recognizer,
    identity: str,
    path: Path,
    *,
    is_masked: bool | None,
    force: bool,
) -> str:
    """Enrol one photo and say what became of it."""
    from openmfr.deploy.gallery import (
        NewImage,
        OtherNameError,
        RefusedError,
        digest_photo,
        unit_rows,
    )
    from openmfr.deploy.mask_worn import is_worn
    from openmfr.faces.photo import PhotoError, read_file

    try:
        encoded = read_file(path)
        digest = digest_photo(encoded)
        known = gallery.store.find_photo(digest)
        if known is not None and known.identity == identity:
            print(f"known    {identity}, image {known.image_id}: {path}")
            return "known"
        face = recognizer.embed(encoded, allow_several=force)
        image = NewImage(
            identity=identity,
            embedding=unit_rows(face.embedding),
            digest=digest,
            is_masked=is_worn(face.mask_worn, said=is_masked),
            source=path.name,
        )
        added = gallery.enrol(image, quality=face.quality, force=force)
    except RefusedError as error:
        print(f"refused  {identity}: {path}: {'; '.join(error.reasons)}", file=sys.stderr)
        return "refused"
    except (PhotoError, OtherNameError) as error:
        print(f"refused  {identity}: {path}: {error}", file=sys.stderr)
        return "refused"
    mask = ", masked" if added.image.is_masked else ""
    print(f"added    {identity}, image {added.image.image_id}{mask}: {path}", flush=True)
    return "added"


def _photos(photos: Path, identity: str | None) -> list[tuple[str, Path]]:
    """List photos and who is on each.

    Raises:
        UserError: If there is none, or nobody says who is on it.
    """
    from openmfr.deploy.gallery.records import check_identity
    from openmfr.errors import UserError
    from openmfr.faces.photo import PHOTO_SUFFIXES

    if photos.is_dir():
        files = [file for file in sorted(photos.rglob("*")) if file.is_file()]
        files = [file for file in files if file.suffix.lower() in PHOTO_SUFFIXES]
    else:
        files = [photos] if photos.is_file() else []
    if not files:
        raise UserError(
            where=str(photos),
            found="no photo" if photos.exists() else "nothing",
            allowed="a photo, or a folder that holds some",
            next_step="check the path",
        )
    if identity is not None:
        check_identity(identity)
        return [(identity, file) for file in files]
    if not photos.is_dir() or any(file.parent == photos for file in files):
        raise UserError(
            where=str(photos),
            found="a photo, and nobody's name",
            allowed="--identity with it, or a folder with one folder for each person",
            next_step="openmfr gallery add … --identity ann",
        )
    named = [(file.relative_to(photos).parts[0], file) for file in files]
    for name, _ in named:
        check_identity(name)
    return named
