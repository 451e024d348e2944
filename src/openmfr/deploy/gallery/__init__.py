"""A gallery of people: encrypted at rest, searched exactly, its scores read as false match rates.

It works on embeddings and fingerprints of models, and knows no network: any will do.

from openmfr.deploy.gallery import NewImage, digest_photo, make_gallery, read_key, unit_rows

gallery = make_gallery("people.db", model=model.fingerprint, dim=512, key=read_key())
image = NewImage(
    identity="ann",
    embedding=unit_rows(embedding),
    digest=digest_photo(photo),
)
gallery.enrol(image)
found = gallery.search(probe, top=5)

What is in here, from the bottom: `records` (what is kept), `cipher` (how it is encrypted), `store`
(the protocol), `sqlite` and `postgres` (who follow it); `four_rows`, `kernels`, `screen`, `index`
and `mapped` (the search); `gate` (who may be enrolled), `meaning` (rates and thresholds), `gallery`
(all of it together).
"""

from openmfr.deploy.gallery.cipher import digest_photo, new_key, read_key
from openmfr.deploy.gallery.gallery import Gallery, GalleryConfig, Person
from openmfr.deploy.gallery.gate import GateConfig, RefusedError
from openmfr.deploy.gallery.meaning import Candidate, Limit
from openmfr.deploy.gallery.opening import make_gallery, open_gallery
from openmfr.deploy.gallery.records import Added, Image, NewImage, unit_rows
from openmfr.deploy.gallery.store import GalleryStore, OtherNameError

__all__ = [
    "Added",
    "Candidate",
    "Gallery",
    "GalleryConfig",
    "GalleryStore",
    "GateConfig",
    "Image",
    "Limit",
    "NewImage",
    "OtherNameError",
    "Person",
    "RefusedError",
    "digest_photo",
    "make_gallery",
    "new_key",
    "open_gallery",
    "read_key",
    "unit_rows",
]
