"""RIDNet: split-attention networks made of what the MFR paper searched among."""

from openmfr.models.ridnet.architecture import (
    KERNELS,
    Architecture,
    Block,
    Definition,
    Kernel,
    Origin,
    Path,
    Stage,
    read_definition,
    write_definition,
)
from openmfr.models.ridnet.fuse import fuse
from openmfr.models.ridnet.network import RIDNet
from openmfr.models.ridnet.shipped import (
    SHIPPED,
    build_shipped,
    load_definition,
    shipped_definition,
    shipped_path,
)

__all__ = [
    "KERNELS",
    "SHIPPED",
    "Architecture",
    "Block",
    "Definition",
    "Kernel",
    "Origin",
    "Path",
    "RIDNet",
    "Stage",
    "build_shipped",
    "fuse",
    "load_definition",
    "read_definition",
    "shipped_definition",
    "shipped_path",
    "write_definition",
]
