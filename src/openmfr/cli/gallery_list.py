"""`openmfr gallery list`: who is enrolled."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from typing import Annotated

import tyro


def main(
    gallery: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="GALLERY")],
    *,
    identity: str | None = None,
    encryption: bool = True,
    json: bool = False,
) -> None:
    """List the people of a gallery, or one person's images.

    Example: openmfr gallery list people.db

    One person's images: openmfr gallery list people.db --identity ann

    Args:
        gallery: File, or postgresql:// URL of a database.
        identity: Whose images to list.
        encryption: With --no-encryption a gallery without encryption is opened although there is a
            key.
        json: Print it as JSON.
    """
    from openmfr.deploy.gallery import open_gallery, read_key
    from openmfr.errors import UserError, nearest

    opened = open_gallery(gallery, key=read_key(), allow_plain=not encryption)
    header, people = opened.store.header, opened.people()
    images = opened.images(identity) if identity is not None else []
    opened.close()
    if identity is not None and not images:
        raise UserError(
            where=gallery,
            found=f"nobody called {identity}",
            allowed="somebody who is enrolled",
            next_step=nearest(identity, [person.identity for person in people]),
        )
    if json:
        listed = [asdict(row) for row in (images if identity is not None else people)]
        about = {"gallery": gallery, "model": header.model, "is_encrypted": header.is_encrypted}
        name = "images" if identity is not None else "people"
        print(json_format.dumps(about | {name: listed}))
        return
    if identity is not None:
        for image in images:
            worn = "masked" if image.is_masked else "bare"
            print(f"{image.image_id:8}  {worn:<6}  {image.added_at}  {image.source}")
        return
    total = sum(person.images for person in people)
    how = "encrypted" if header.is_encrypted else "not encrypted"
    held = f"{_count(len(people), 'person', 'people')}, {_count(total, 'image', 'images')}"
    print(f"{gallery}: {held}; model {header.model}; {how}")
    width = max((len(person.identity) for person in people), default=0)
    for person in people:
        worn = f", {person.masked} masked" if person.masked else ""
        last = f"last {person.last_added_at}"
        images_held = _count(person.images, "image", "images")
        print(f"  {person.identity:<{width}}  {images_held}{worn}; {last}")


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
