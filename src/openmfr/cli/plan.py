"""`openmfr plan`: a recipe and the size of its data → memory, traffic, steps and time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from openmfr.plan import DatasetSize
    from openmfr.train import TrainConfig


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
) -> None:
    """Say what a training needs before it begins; needs neither data nor a GPU.

    Example: openmfr plan paper_cosface --ranks 48 --memory-gib 40

    The size of the data comes from --like, --store, or --images and --identities; the paper's
    recipes are planned for WebFace42M.

    Args:
        recipe: As for openmfr train.
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
    """
    from dataclasses import replace

    from openmfr.device import choose_device
    from openmfr.plan import describe_plan, plan, ways_table
    from openmfr.recipes import PAPER_RANKS, is_papers, load_recipe

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


def _size(
    config: TrainConfig,
    like: str | None,
    store: Path | None,
    labels: Path | None,
    images: int | None,
    identities: int | None,
) -> DatasetSize:
    """Size of the data, from the one source that was named."""
    from openmfr.errors import UserError
    from openmfr.plan import DatasetSize, known_size
    from openmfr.train import Training

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
        training = Training(config=config, store=store, labels=labels)
        table = training.read_labels()
        if config.holdout_identities:
            table = table.hold_out(config.holdout_identities, seed=config.seed)
        return DatasetSize(images=int(table.keep.sum()), identities=len(table.kept_identities))
    assert images is not None
    assert identities is not None
    return DatasetSize(images=images, identities=identities)
