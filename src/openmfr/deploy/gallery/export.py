"""A gallery's content elsewhere: as a Parquet table for other programs, or in another store."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from openmfr.deploy.gallery.records import NewImage
from openmfr.deploy.gallery.store import GalleryStore
from openmfr.files import atomic_path

FORMAT_VERSION = 1


def export_gallery(store: GalleryStore, out: Path) -> int:
    """Write all images with their embeddings, not encrypted, readable by the owner alone.

    Columns: image_id, identity, is_masked, source, added_at, embedding (float32, of length 1). The
    model's fingerprint is in the schema's metadata.

    Args:
        store: The gallery.
        out: Parquet file to write.

    Returns:
        How many images were written.

    Raises:
        UserError: If a row was changed by somebody else.
    """
    metadata = {
        "openmfr.format_version": str(FORMAT_VERSION),
        "openmfr.kind": "gallery export",
        "openmfr.model": store.header.model,
    }
    schema = pa.schema(
        [
            ("image_id", pa.int64()),
            ("identity", pa.string()),
            ("is_masked", pa.bool_()),
            ("source", pa.string()),
            ("added_at", pa.string()),
            ("embedding", pa.list_(pa.float32(), store.header.dim)),
        ],
        metadata=metadata,
    )
    written = 0
    with atomic_path(out) as temporary:
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        with pq.ParquetWriter(temporary, schema) as writer:
            for rows in store.rows():
                table = {name: getattr(rows, name) for name in schema.names[:-1]}
                columns = [pa.array(v, schema.field(name).type) for name, v in table.items()]
                flat = pa.array(rows.embedding.ravel(), pa.float32())
                columns.append(pa.FixedSizeListArray.from_arrays(flat, store.header.dim))
                writer.write_batch(pa.record_batch(columns, schema=schema))
                written += len(rows.identity)
    return written


def copy_gallery(
    source: GalleryStore, target: GalleryStore, *, advance: Callable[[int], None]
) -> int:
    """Enrol everybody of one gallery in another: to change its key, or to move it to a server.

    A copy that was stopped goes on: what is there already is not enrolled again.

    Args:
        source: Read.
        target: Written; of the same model.
        advance: Called with the number of images after each piece of work.

    Returns:
        How many images were new to the target.

    Raises:
        UserError: If the models differ, or a photo is enrolled under another name there.
    """
    target.header.check_model(source.header.model, where=target.where)
    added = 0
    for rows in source.rows():
        images = [
            NewImage(
                identity=identity,
                embedding=rows.embedding[i],
                digest=rows.digest[i],
                is_masked=bool(rows.is_masked[i]),
                source=rows.source[i],
            )
            for i, identity in enumerate(rows.identity)
        ]
        added += sum(one.is_new for one in target.add(images))
        advance(len(images))
    return added
