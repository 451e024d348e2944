"""All that is run on several ranks, at once: a process that imports torch costs seconds."""

from __future__ import annotations

import math
from dataclasses import replace

from distributed import checks
from distributed.harness import Result
from distributed.scenarios import (
    KINDS,
    Scenario,
    every_one,
    first_few,
    last_one,
    run_scenario,
    spread,
)

from openmfr.distributed import Ranks
from openmfr.heads import HeadConfig

#: Blocks that neither divide a shard nor hold one.
FUSED = {name: replace(config, block=16) for name, config in KINDS.items()}
DENSE = {name: replace(config, path="dense") for name, config in KINDS.items()}

CHOICES = {
    "all on one rank": first_few,
    "one identity only": last_one,
    "each identity once": every_one,
}

#: Against float64, to rounding.
EXACT = {
    **{f"fused {name}": Scenario(config=config) for name, config in FUSED.items()},
    **{f"dense {name}": Scenario(config=config) for name, config in DENSE.items()},
    **{
        f"deferred {name}": Scenario(config=replace(FUSED[name], update="deferred"))
        for name in ("softmax", "arcface")
    },
    **{
        f"{heads} {name}, {how}": Scenario(config=configs[name], choose=choose)
        for heads, configs in (("fused", FUSED), ("dense", DENSE))
        for name in ("softmax", "arcface")
        for how, choose in CHOICES.items()
    },
    **{
        f"{path}, {identities} identities": Scenario(
            config=HeadConfig(margin=0.3, scale=8, path=path),
            identities=identities,
        )
        for path in ("fused", "dense")
        for identities in (2, 4, 5)
    },
    **{
        f"{path}, {images} images": Scenario(config=configs["cosface"], images=images)
        for path, configs in (("fused", FUSED), ("dense", DENSE))
        for images in (4, 5, 7)
    },
    **{
        f"{path}, scaled loss": Scenario(config=configs["cosface"], grad_scale=1024.0)
        for path, configs in (("fused", FUSED), ("dense", DENSE), ("deferred", FUSED))
    },
}
EXACT["deferred, scaled loss"] = replace(
    EXACT["fused, scaled loss"], config=replace(FUSED["cosface"], update="deferred")
)
# 4 images are 2, 2 and 0 on three ranks: the trainer refuses a batch that leaves a rank without.
del EXACT["fused, 4 images"], EXACT["dense, 4 images"]

#: Of these only the sampled identities take part.
SAMPLED = {
    f"{unsampled} {name}, {how}": Scenario(
        config=replace(FUSED[name], sample_rate=rate, unsampled=unsampled, **options),  # type: ignore[arg-type]
        choose=choose,
        steps=8,
        images=images,
    )
    for unsampled in ("sparse", "dense_equivalent")
    for name, how, rate, choose, images, options in (
        ("softmax", "a third", 0.3, spread, 13, {}),
        ("arcface", "a third", 0.3, spread, 13, {}),
        ("adaface", "a third, deferred", 0.3, spread, 13, {"update": "deferred"}),
        ("cosface", "fewer than the batch has", 0.02, every_one, 61, {}),
        ("cosface", "none but the batch's own", 1e-12, first_few, 13, {}),
    )
}

#: Held to a looser bound: their products or exponentials are rounded to bfloat16.
ROUNDED = {
    **{
        f"keep_exp {name}": Scenario(
            config=replace(FUSED[name], backward="keep_exp"), weight_decay=0.0
        )
        for name in ("softmax", "cosface", "arcface", "adaface")
    },
    "keep_exp sampled": Scenario(
        config=replace(FUSED["cosface"], backward="keep_exp", sample_rate=0.5), weight_decay=0.0
    ),
    **{
        f"bfloat16 {name}": Scenario(
            config=replace(KINDS[name], gemm="bfloat16", block=40), dim=dim, weight_decay=0.0
        )
        # Without cosines, rounding moves a logit by a share of it: they must not be large.
        for name, dim in (("softmax", 8), ("cosface", 128), ("arcface", 128), ("adaface", 128))
    },
}

#: d 512 and batch 128: errors as they are in training.
PRECISE = {
    name: Scenario(
        config=replace(KINDS[name], scale=64.0),
        identities=1003,
        dim=512,
        images=128,
        steps=1,
        weight_decay=0.0,
    )
    for name in ("cosface", "arcface")
}

#: Where formulas have no value or slope.
FINITE = {
    **{
        f"{path} {name}, aligned": Scenario(
            config=replace(configs[name], scale=64.0), is_aligned=True
        )
        for path, configs in (("fused", FUSED), ("dense", DENSE))
        for name in KINDS
    },
    **{
        f"{path} {name}, zeros": Scenario(config=configs[name], has_zeros=True)
        for path, configs in (("fused", FUSED), ("dense", DENSE))
        for name in ("softmax", "cosface", "arcface", "adaface")
    },
    "keep_exp cosface, aligned": Scenario(
        config=replace(KINDS["cosface"], backward="keep_exp"), is_aligned=True
    ),
    "keep_exp cosface, zeros": Scenario(
        config=replace(KINDS["cosface"], backward="keep_exp"), has_zeros=True
    ),
}

SKIPPED = {
    f"{update} {unsampled}": Scenario(
        config=replace(
            FUSED["cosface"],
            update=update,
            sample_rate=rate,
            unsampled=unsampled,  # type: ignore[arg-type]
        ),
        skipped=1,
        steps=3,
    )
    for update in ("fused", "deferred")
    for unsampled, rate in (("sparse", 1.0), ("dense_equivalent", 0.3))
}

#: Pairs of scenarios that must end bit for bit alike.
WHOLE_SAMPLES = {
    f"{name}, {how}": (
        Scenario(config=config),
        Scenario(config=replace(config, sample_rate=rate, unsampled="dense_equivalent")),
    )
    for name, config in (
        ("cosface", FUSED["cosface"]),
        ("softmax", FUSED["softmax"]),
        ("keep_exp", replace(FUSED["arcface"], backward="keep_exp")),
        ("deferred", replace(FUSED["arcface"], update="deferred")),
    )
    for how, rate in (
        ("rate 1", 1.0),
        ("rate just below 1", 1 - 1e-9),
        ("largest rate below 1", math.nextafter(1.0, 0.0)),
    )
}

SCENARIOS = {**EXACT, **SAMPLED, **ROUNDED, **PRECISE, **FINITE, **SKIPPED}


def run_table(ranks: Ranks) -> Result:
    """Every scenario and check on one rank."""
    return {
        "scenarios": {name: run_scenario(scenario, ranks) for name, scenario in SCENARIOS.items()},
        "whole": {
            name: [checks.attempt(run_scenario, scenario, ranks) for scenario in pair]
            for name, pair in WHOLE_SAMPLES.items()
        },
        "checks": {name: checks.attempt(check, ranks) for name, check in checks.CHECKS.items()},
    }
