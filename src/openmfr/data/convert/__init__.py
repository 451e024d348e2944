"""Sets of faces in other formats → a store, and back: the encoded bytes stay as they are."""

from openmfr.data.convert.into_store import StoreSummary, convert_to_store
from openmfr.data.convert.out_of_store import OutConfig, OutSummary, convert_from_store

__all__ = ["OutConfig", "OutSummary", "StoreSummary", "convert_from_store", "convert_to_store"]
