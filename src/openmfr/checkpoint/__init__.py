"""Checkpoints: what training leaves behind, goes on from, and embeds with."""

from openmfr.checkpoint.embedder import CheckpointEmbedder, embed_batch
from openmfr.checkpoint.folder import CheckpointFolder
from openmfr.checkpoint.state import Checkpoint, CheckpointInfo, load_into, save_checkpoint

__all__ = [
    "Checkpoint",
    "CheckpointEmbedder",
    "CheckpointFolder",
    "CheckpointInfo",
    "embed_batch",
    "load_into",
    "save_checkpoint",
]
