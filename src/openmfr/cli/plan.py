"""`openmfr plan`: a recipe, or a cleaning, and the size of its data → memory, work and time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from openmfr.plan import DatasetSize
    from openmfr.train import TrainConfig

#: What is planned in place of a recipe.
CLEANING = "cleaning"


def main(
    recipe: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RECIPE")],
    *,
    ranks: int | None = None,
    memory_gib: float | None = None,
    like: str | None = None,
    store: Path | None = None,
    labels: Path | None = None,
    images: int | None = None,
    identities: int | None = None,
    images_per_second: float | None = None,
    batch_size: int | None = None,
    device: Literal["cpu", "cuda"] | None = None,
    embedding_dim: int | None = None,
    gflops: float | None = None,
    read_gb_per_second: float | None = None,
) -> None:
    """Say what a training, or a cleaning pass, needs before it begins; needs no data and no GPU.

    Example: openmfr plan paper_cosface --ranks 48 --memory-gib 40

    A cleaning pass: openmfr plan cleaning --like webface42m --ranks 16 --gflops 60

    The size of the data comes from --like, --store, or --images and --identities; the paper's
    recipes are planned for WebFace42M.

    Args:
        recipe: As for openmfr train; or cleaning, for a cleaning pass.
        ranks: Processes that share the training; 48 for the paper's recipes, otherwise 1.
        memory_gib: Memory of each rank in GiB: says what fits, and the fewest ranks.
        like: A known training set: webface42m, webface12m, webface4m, glint360k, ms1mv3, ms1mv2,
            imdb-face.
        store: Folder of aligned faces with its labels; held-out identities are left out.
        labels: Label table of the store; STORE/labels.parquet by default.
        images: Number of images, with --identities.
        identities: Number of identities, with --images.
        images_per_second: Speed of all ranks together: says how long training takes.
        batch_size: Images of all ranks in each step, instead of the recipe's.
        device: cpu counts what its allocator needs too; cuda for the paper's recipes, otherwise
            what this machine has.
        embedding_dim: Of the embeddings to be cleaned; 512 by default.
        gflops: Speed of one rank in the search for similar identities: says how long it takes.
        read_gb_per_second: Speed at which a cleaning reads embeddings: says how long it takes.
    """
    from dataclasses import replace

    from openmfr.device import choose_device
    from openmfr.plan import describe_plan, plan, ways_table
    from openmfr.recipes import PAPER_RANKS, is_papers, load_recipe

    is_cleaning = recipe == CLEANING
    of_training: dict[str, object] = {
        "--images-per-second": images_per_second,
        "--batch-size": batch_size,
        "--device": device,
    }
    of_cleaning: dict[str, object] = {
        "--embedding-dim": embedding_dim,
        "--gflops": gflops,
        "--read-gb-per-second": read_gb_per_second,
    }
    _refuse(of_training if is_cleaning else of_cleaning, recipe)
    if is_cleaning:
        size = _size(None, like, store, labels, images, identities)
        dim = 512 if embedding_dim is None else embedding_dim
        _print_cleaning(
            size, 1 if ranks is None else ranks, memory_gib, dim, gflops, read_gb_per_second
        )
        return
    config = load_recipe(recipe)
    if batch_size is not None:
        config = replace(config, batch_size=batch_size)
    is_paper = is_papers(recipe)
    if like is None and store is None and images is None and identities is None and is_paper:
        like = "webface42m"
    size = _size(config, like, store, labels, images, identities)
    if ranks is None:
        ranks = PAPER_RANKS if is_paper else 1
    if device is None:
        device = "cuda" if is_paper or choose_device(None).type == "cuda" else "cpu"
    lines = describe_plan(
        config,
        size,
        ranks,
        device=device,
        memory_gib=memory_gib,
        images_per_second=images_per_second,
    )
    for name, value in lines.items():
        print(f"{name:<14} {value}")
    planned = plan(config, size, ranks=ranks, device=device, memory_gib=memory_gib)
    print(f"\nWays to hold the classifier, on each of {ranks} ranks ({device}):")
    print("\n".join(ways_table(planned.ways)))


def _refuse(flags: dict[str, object], recipe: str) -> None:
    """Refuse flags that say nothing about what is planned."""
    from openmfr.errors import UserError

    named = [name for name, value in flags.items() if value is not None]
    if named:
        raise UserError(
            where=f"openmfr plan {recipe}",
            found=" and ".join(named),
            allowed="flags of a training"
            if recipe != CLEANING
            else "flags of a cleaning pass, such as --gflops",
            next_step="leave it out",
        )


def _print_cleaning(
    size: DatasetSize,
    ranks: int,
    memory_gib: float | None,
    dim: int,
    gflops: float | None,
    read_gb_per_second: float | None,
) -> None:
    from openmfr.plan.cleaning import describe_cleaning, plan_cleaning

    planned = plan_cleaning(
        size, dim=dim, ranks=ranks, gflops=gflops, read_gb_per_second=read_gb_per_second
    )
    lines = describe_cleaning(planned, size, ranks=ranks, memory_gib=memory_gib)
    for name, value in lines.items():
        print(f"{name:<14} {value}")


def _size(
    config: TrainConfig | None,
    like: str | None,
    store: Path | None,
    labels: Path | None,
    images: int | None,
    identities: int | None,
) -> DatasetSize:
    """Size of the data, from the one source that was named."""
    from openmfr.data.labels import Labels
    from openmfr.errors import UserError
    from openmfr.plan import DatasetSize, known_size

    numbers = {"--images": images, "--identities": identities}
    sources = {
        "--like": like is not None,
        "--store": store is not None,
        " and ".join(name for name, value in numbers.items() if value is not None): any(
            value is not None for value in numbers.values()
        ),
    }
    named = [name for name, is_named in sources.items() if is_named]
    is_whole = (images is None) == (identities is None)
    if len(named) != 1 or not is_whole:
        raise UserError(
            where="size of the data",
            found=" with ".join(named) or "none",
            allowed="one of --like NAME, --store STORE, and --images N --identities C together",
            next_step="for example --like webface42m",
        )
    if like is not None:
        return known_size(like)
    if store is not None:
        table = Labels.read(labels or store / "labels.parquet")
        if config is not None and config.holdout_identities:
            table = table.hold_out(config.holdout_identities, seed=config.seed)
        return DatasetSize(images=int(table.keep.sum()), identities=len(table.kept_identities))
    assert images is not None
    assert identities is not None
    return DatasetSize(images=images, identities=identities)
