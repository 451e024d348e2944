"""What a training will need before it begins: memory of each rank, traffic, steps and time.

Every room says what it needs: a head by `openmfr.heads.memory`, a backbone by a forward pass over
tensors without storage. This room adds up, and looks for the fewest ranks that are enough. No
data and no GPU is needed.

Counted are tensors. Beside them stand the process with its libraries (0.4 GiB on a CPU, about as
much for CUDA's context), what communication buffers for itself, and the gaps that an allocator
leaves. The gaps are counted on a CPU, where they are large: `GAPS`.
"""

from openmfr.plan.backbone import GAPS, BackboneMemory, backbone_memory
from openmfr.plan.planner import Plan, Traffic, Way, plan, smallest_ranks, traffic
from openmfr.plan.sizes import DATASETS, DatasetSize, known_size
from openmfr.plan.text import describe_memory, describe_plan, ways_table

__all__ = [
    "DATASETS",
    "GAPS",
    "BackboneMemory",
    "DatasetSize",
    "Plan",
    "Traffic",
    "Way",
    "backbone_memory",
    "describe_memory",
    "describe_plan",
    "known_size",
    "plan",
    "smallest_ranks",
    "traffic",
    "ways_table",
]
